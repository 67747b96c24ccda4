"""A video model in overlapping chunks: its plan, and what too little overlap costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import UsageError
from edgekit.model import Model
from edgekit.plan.chunks import Clip, chunk_length, chunk_windows
from edgekit.plan.memory import MemoryModel, run_peak_bytes, timeline
from edgekit.plan.network import network_of
from edgekit.plan.plan import ModelFile, Plan, Stage, Window
from edgekit.plan.plan import Tensor as PlanTensor
from edgekit.plan.repeats import repeat_of
from edgekit.plan.stages import arena_bytes
from edgekit.program.capture import capture
from edgekit.program.program import Program

ONE_EACH = "Chunks need a network of one input and one output."


def chunk_program(model: Model, program: Program, frames: int, overlap: int) -> Program:
    """The model at a chunk's length, with the names and ranges of the whole `program`."""
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise UsageError(ONE_EACH)
    source = Clip(program.inputs[0].shape)
    length = chunk_length(source, frames, overlap)
    (clip,) = model.example_inputs
    captured = capture(model.module, (clip.narrow(source.dim, 0, length),)).program
    named = zip(
        (*program.inputs, *program.outputs), (*captured.inputs, *captured.outputs), strict=True
    )
    specs = tuple(replace(whole, shape=own.shape) for whole, own in named)
    return replace(captured, inputs=specs[:1], outputs=specs[1:])


def chunk_plan(program: Program, chunk: Program, file: str, frames: int, overlap: int) -> Plan:
    """One model file, run once a chunk."""
    (given,), (made,) = program.inputs, program.outputs
    chunk_frames = Clip(chunk.outputs[0].shape).frames
    windows = chunk_windows(Clip(given.shape), Clip(made.shape), frames, overlap, chunk_frames)
    model = MemoryModel(input_counted=False)
    whole, part = timeline(network_of(program), model), network_of(chunk)
    run = run_peak_bytes(part, part.inputs[0], part.outputs[0], MemoryModel())
    tensors = {spec.name: PlanTensor(spec.shape, spec.dtype) for spec in (given, made)}
    stage = Stage(
        (ModelFile(file),), given.name, made.name, given.name, made.name, windows,
        repeat=repeat_of(windows),
    )  # fmt: skip
    overhead = len(windows) * timeline(part, model).macs / max(1, whole.macs) - 1
    return Plan(
        arena_bytes(run), tensors, (stage,), whole.peak_bytes,
        run + tensors[made.name].nbytes, round(overhead, 6),
    )  # fmt: skip


@dataclass(frozen=True)
class OverlapError:
    """What chunks with one overlap differ from the whole clip by."""

    overlap: int
    """Input frames on each side of a chunk."""
    read: float
    """Input frames that are read, as a multiple of the clip's."""
    psnr_db: float
    """Against the range of the output as declared, else as it is; infinite where they are equal."""
    max_abs: float


def overlap_errors(model: Model, frames: int, clip: Tensor | None = None) -> Iterator[OverlapError]:
    """Chunks of `frames` input frames in eager torch, at growing overlaps, until nothing is gained.

    `clip` is the model's input; None takes its example input, which is noise for most models.

    Raises UsageError for a model that chunks cannot be made of.
    """
    if len(model.example_inputs) != 1:
        raise UsageError(ONE_EACH)
    given = model.example_inputs[0] if clip is None else clip
    source = Clip(tuple(given.shape))
    whole = _result(model, given)
    declared = model.outputs[0].span if model.outputs else None
    span = declared or float(whole.max() - whole.min()) or 1.0
    overlap = 0
    chunk_length(source, frames, overlap)
    refused: UsageError | None = None
    while frames + 2 * overlap < source.frames:
        try:
            found, windows = _decoded(model, given, whole, frames, overlap)
        except UsageError as refusal:
            if overlap:
                raise
            refused = refusal  # a larger overlap may do
        else:
            error = (found - whole).abs()
            mse = float(error.double().square().mean())
            psnr = 10 * math.log10(span**2 / mse) if mse else math.inf
            read = len(windows) * (frames + 2 * overlap) / source.frames
            yield OverlapError(overlap, read, psnr, float(error.max()))
            refused = None
            if psnr > EXACT_DB:
                return
        overlap = overlap * 2 or 1
    if refused is not None:
        raise refused


EXACT_DB = 110.0
"""Float32 in another order of operations differs by as much."""


def _decoded(
    model: Model, clip: Tensor, whole: Tensor, frames: int, overlap: int
) -> tuple[Tensor, tuple[Window, ...]]:
    source, result = Clip(tuple(clip.shape)), Clip(tuple(whole.shape))
    length = chunk_length(source, frames, overlap)
    first = _result(model, clip.narrow(source.dim, 0, length))
    windows = chunk_windows(source, result, frames, overlap, first.shape[result.dim])
    parts = []
    for window in windows:
        start, stop = window.read[source.dim]
        part = _result(model, clip.narrow(source.dim, start, stop - start))
        if window.take is not None:
            start, stop = window.take[result.dim]
            part = part.narrow(result.dim, start, stop - start)
        parts.append(part)
    return torch.cat(parts, result.dim), windows


def _result(model: Model, clip: Tensor) -> Tensor:
    result: Any = model(clip)
    if not isinstance(result, Tensor):
        raise UsageError(ONE_EACH)
    return result
