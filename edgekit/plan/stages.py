"""From a path through a network to Programs: one per kind of tile or step, one per stretch run at once.

Tiles of equal geometry share a program, so that a grid of any size has nine, and a stream a few first
ones, a steady one and a few last ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch.fx import Node

from edgekit.plan.frames import frame_axes
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, run_peak_bytes, timeline
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import WHOLE, Found, Stretch, one_run, streamed_dim, tile_spans
from edgekit.plan.patterns import kept_lines
from edgekit.plan.plan import Box, ModelFile, Plan, Stage, Tensor, Window
from edgekit.plan.region import Region, Span, whole
from edgekit.plan.repeats import repeat_of
from edgekit.plan.stage_memory import StageBytes, stream_bytes
from edgekit.plan.step_programs import StepModule, step_module
from edgekit.plan.steps import Stream, stream_of
from edgekit.program.program import Program

LARGEST_CHUNK_BYTES = 2**31 - 1
"""onnxruntime takes the size of an arena's chunk as a 32-bit integer."""


LEAST_RETURNED_BYTES = 256 << 20
"""A single run that holds this much is spared the arena, which would keep it beside all later stages.

Eight tensors of 32 MiB: glibc gives back at once what is larger, and keeps and scatters what is smaller.
"""


@dataclass(frozen=True)
class StagePrograms:
    """A stage whose models are still programs."""

    stage: Stage
    programs: tuple[Program, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, and the programs of its stages."""

    plan: Plan
    stages: tuple[StagePrograms, ...]


def planned(network: Network, found: Found, program: Program, suffix: str) -> Planned:
    """Write the programs of a path. Neighbouring stretches that run at once become one stage.

    `suffix` ends the model files' names, such as ".onnx".
    """
    names = _names(network, program)
    runs = runs_within(network, found)
    stages = tuple(
        _stage(network, stretch, names, f"stage{number}", suffix)
        for number, stretch in enumerate(runs)
    )
    tensors = {
        names[node]: Tensor(shape(node), str(node.meta["val"].dtype).removeprefix("torch."))
        for built in runs
        for node in (built.source, built.result)
    }
    held = list(_bytes(network, runs, stages, tensors))
    stages = tuple(_sessions(built, bytes_.run) for built, bytes_ in zip(stages, held, strict=True))
    shared = [
        bytes_.run
        for built, bytes_ in zip(stages, held, strict=True)
        if built.stage.models[0].session == "frugal"
    ]
    plan = Plan(
        arena_bytes(max(shared, default=0)),
        tensors,
        tuple(built.stage for built in stages),
        found.whole_peak_bytes,
        max([found.peak_bytes, *(stage.peak for stage in held)]),
        round(found.overhead, 6),
    )
    return Planned(plan, stages)


def _sessions(built: StagePrograms, run_bytes: int) -> StagePrograms:
    stage = built.stage
    if not stage.is_whole or run_bytes < LEAST_RETURNED_BYTES:
        return built
    models = tuple(replace(model, session="returning") for model in stage.models)
    return replace(built, stage=replace(stage, models=models))


def runs_within(network: Network, found: Found) -> tuple[Stretch, ...]:
    """Neighbouring stretches that run at once as one, as far as the plan's peak allows.

    A run's input is held to its end, which stretches by themselves give back earlier.
    """
    model = MemoryModel(input_counted=False)
    runs: list[Stretch] = []
    for stretch in found.stretches:
        both = one_run(runs[-1], stretch) if runs else None
        if both and run_peak_bytes(network, both.source, both.result, model) <= found.peak_bytes:
            runs[-1] = both
        else:
            runs.append(stretch)
    return tuple(runs)


def _bytes(
    network: Network,
    runs: tuple[Stretch, ...],
    stages: tuple[StagePrograms, ...],
    tensors: dict[str, Tensor],
) -> Iterator[StageBytes]:
    """Of the stages as they are written: several stretches in one run, kept lines as arrays."""
    model = MemoryModel(input_counted=False)
    for stretch, built in zip(runs, stages, strict=True):
        stage = built.stage
        if stretch.tiling == WHOLE:
            peak = run_peak_bytes(network, stretch.source, stretch.result, model)
            yield StageBytes(peak, peak)
        elif stretch.tiling.stream:
            ends = (stage.source, stage.result)
            beside = ends[1:] if stretch.source in network.inputs else ends
            whole_bytes = sum(tensors[name].nbytes for name in beside)
            yield stream_bytes(stage, built.programs, whole_bytes)
        else:
            yield StageBytes(stretch.peak_bytes, stretch.run_bytes)


def one_file_plan(program: Program, found: Found, file: str) -> Plan:
    """The plan of an unrolled network: one stage, and the peak of the graph as it is written."""
    peak = timeline(network_of(program), MemoryModel(input_counted=False)).peak_bytes
    (given,), (made,) = program.inputs, program.outputs
    boxes_: list[Box] = [tuple((0, size) for size in spec.shape) for spec in (given, made)]
    stage = Stage(
        (ModelFile(file),),
        given.name,
        made.name,
        given.name,
        made.name,
        (Window(0, boxes_[0], boxes_[1]),),
    )
    tensors = {spec.name: Tensor(spec.shape, spec.dtype) for spec in (given, made)}
    return Plan(
        arena_bytes(peak),
        tensors,
        (stage,),
        found.whole_peak_bytes,
        peak,
        round(found.overhead, 6),
    )


def arena_bytes(run_bytes: int) -> int:
    """A first chunk with room to spare: what a run touches is resident, not what is reserved.

    One that a run just fits into breaks up and grows: 63 MiB for a U-Net's 4x4 tiles against 55
    with four times the run's live tensors (onnxruntime 1.32).
    """
    return min(4 * run_bytes, LARGEST_CHUNK_BYTES)


def _names(network: Network, program: Program) -> dict[Node, str]:
    """Contract names for inputs and outputs, the graph's own for what lies between."""
    doors = zip(
        (*network.inputs, *network.outputs), (*program.inputs, *program.outputs), strict=True
    )
    return {node: node.name for node in network.nodes} | {node: spec.name for node, spec in doors}


def _stage(
    network: Network, stretch: Stretch, names: dict[Node, str], label: str, suffix: str
) -> StagePrograms:
    door = (names[stretch.source], names[stretch.over])
    averaged = stretch.over is not stretch.result
    whole_over, whole_result = (whole(shape(node)) for node in (stretch.over, stretch.result))
    modules: list[StepModule] = []
    kinds: dict[str, int] = {}
    windows = []
    streams = list(strips(network, stretch))
    for strip, step in _order(stretch, len(streams), streams[0].count):
        stream = streams[strip]
        module = step_module(network, stream, step, door)
        if step and step == stream.count - 1:
            # As if more steps came: where that is a program that there is, the last one needs no own.
            another = step_module(network, stream, step, door, goes_on=True)
            module = another if another.key in kinds else module
        if module.key not in kinds:
            kinds[module.key] = len(modules)
            modules.append(module)
        read = stream.read(step) or tuple((0, 0) for _ in shape(stretch.source))
        written = stream.written(step)
        write = whole_result if averaged else written
        share = _elements(written) / _elements(whole_over) if averaged else 1.0
        windows.append(Window(kinds[module.key], _plain(read), _plain(write), share, strip))
    files = [
        f"{label}{suffix}" if len(modules) == 1 else f"{label}-{number}{suffix}"
        for number in range(len(modules))
    ]
    models = tuple(
        ModelFile(file, module.before, module.after)
        for file, module in zip(files, modules, strict=True)
    )
    repeat = repeat_of(windows) if stretch.tiling.stream == "frames" else None
    stage = Stage(models, door[0], names[stretch.result], *door, tuple(windows), averaged, repeat)
    return StagePrograms(stage, tuple(module.program() for module in modules))


def _order(stretch: Stretch, strips_: int, steps: int) -> list[tuple[int, int]]:
    """Strip and step of each window: strips take turns if frames stream, so that none is needed twice.

    Others come one after the other, so that only one of them keeps lines at a time.
    """
    if stretch.tiling.stream == "frames":
        return [(strip, step) for step in range(steps) for strip in range(strips_)]
    return list(product(range(strips_), range(steps)))


def strips(network: Network, stretch: Stretch) -> Iterator[Stream]:
    """Every strip of a stretch, row by row, as a stream of steps. A tile is a strip of one step."""
    over, tiling = stretch.over, stretch.tiling
    sizes = shape(over)
    axis = frame_axes(network).get(over) if tiling.frames > 1 else None
    spans = tile_spans(network, over, tiling, axis)
    flow = streamed_dim(over, tiling, axis)
    along = spans.pop(flow) if flow is not None else []
    thin = kept_lines(network, tiling.again) if tiling.stream else frozenset[Node]()
    for strip in product(*(spans.get(dim, [(0, size)]) for dim, size in enumerate(sizes))):
        region: list[Span] = list(strip)
        if flow is not None:
            start, stop = (np.array(bounds) for bounds in zip(*along, strict=True))
            region[flow] = (start, stop)
        yield stream_of(network, stretch.source, over, tuple(region), max(1, len(along)), thin)


def _plain(region: Region) -> Box:
    return tuple((int(start), int(stop)) for start, stop in region)


def _elements(region: Region) -> int:
    count = 1
    for start, stop in region:
        count *= int(stop) - int(start)
    return count
