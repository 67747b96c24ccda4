"""Running a plan: a loop over stages and windows in the host, whatever runs the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.backends.registry import Backend, backend_for
from edgekit.backends.runnable import Array, Runnable, check_inputs
from edgekit.bundle import Bundle
from edgekit.plan.plan import Box, Plan, Stage, read_plan


class PlanRunnable:
    """A bundle's plan as one Runnable; a tensor is dropped when its last reader has run."""

    rounds_to_half: bool

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        backend: Backend,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
    ) -> None:
        self.plan = plan
        self.name = folder.name
        self.outputs = outputs
        self.input_shapes = {name: plan.tensors[name].shape for name in inputs}
        files = {file for stage in plan.stages for file in stage.models}
        self.models: dict[str, Runnable] = {
            file: backend.load(folder / file, plan.session, plan.arena_bytes)
            for file in sorted(files)
        }
        first = next(iter(self.models.values()))
        self.reference = f"{first.reference}, {sum(len(s.windows) for s in plan.stages)} windows"
        self.rounds_to_half = first.rounds_to_half

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        check_inputs(inputs, self.input_shapes, self.name)
        tensors: dict[str, Array] = dict(inputs)
        last_reader = {stage.source: index for index, stage in enumerate(self.plan.stages)}
        for index, stage in enumerate(self.plan.stages):
            tensors[stage.result] = self._run_stage(stage, tensors[stage.source])
            for name, reader in last_reader.items():
                if reader == index and name not in self.outputs:
                    del tensors[name]
        return {name: tensors[name] for name in self.outputs}

    def _run_stage(self, stage: Stage, source: Array) -> Array:
        if stage.is_whole and not stage.averaged:
            return self._window(stage, 0, part_of(source, stage.windows[0].read))
        tensor = self.plan.tensors[stage.result]
        result: Any = np.zeros(tensor.shape, dtype=tensor.dtype)
        for window in stage.windows:
            part = self._window(stage, window.model, part_of(source, window.read))
            if stage.averaged:
                axes = tuple(range(2, part.ndim))
                summed: Any = part
                mean = np.mean(summed, axis=axes, keepdims=True, dtype=np.float64) * window.share
                result += mean.reshape(tensor.shape).astype(tensor.dtype)
            else:
                result[at(window.write)] = part
            del part  # it would be alive beside the next window's
        finished: Array = result
        return finished

    def _window(self, stage: Stage, model: int, part: Array) -> Array:
        return self.models[stage.models[model]].run({stage.input: part})[stage.output]

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Tensors between stages."""
        tensors: dict[str, Array] = dict(inputs)
        for stage in self.plan.stages:
            tensors[stage.result] = self._run_stage(stage, tensors[stage.source])
            yield stage.result, "stage", tensors[stage.result]


def open_runnable(bundle: Bundle) -> Runnable:
    """What computes a bundle: its file, or its plan. Raises UsageError."""
    backend = backend_for(bundle.format)
    plan = read_plan(bundle.path)
    if plan is None:
        return backend.load(bundle.model_file)
    names = [tuple(spec.name for spec in specs) for specs in (bundle.inputs, bundle.outputs)]
    return PlanRunnable(bundle.path, plan, backend, names[0], names[1])


def part_of(tensor: Array, box: Box) -> Array:
    """The box as an array of its own, or the tensor itself where the box is all of it."""
    if all(span == (0, size) for span, size in zip(box, tensor.shape, strict=True)):
        return tensor
    return np.ascontiguousarray(tensor[at(box)])


def at(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
