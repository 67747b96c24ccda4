"""Running a plan: a loop over stages and windows in the host, whatever runs the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.backends.heap import return_freed_memory
from edgekit.backends.registry import Backend, backend_for
from edgekit.backends.runnable import Array, Runnable, check_inputs
from edgekit.bundle import Bundle
from edgekit.plan.plan import Box, Plan, Stage, Tensor, Window, read_plan
from edgekit.plan.repeats import for_input


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
        (self.input,) = inputs
        self.outputs = outputs
        self.models: dict[str, Runnable] = {
            file: backend.load(folder / file, model.session, plan.arena_bytes)
            for file, model in sorted(plan.models.items())
        }
        return_freed_memory()
        first = next(iter(self.models.values()))
        self.reference = f"{first.reference}, {sum(len(s.windows) for s in plan.stages)} windows"
        self.rounds_to_half = first.rounds_to_half

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Along the dimension of a stream, inputs may be longer or shorter than the plan's."""
        tensors = dict(inputs)
        for _ in self._stages(tensors):
            pass
        return self._results(tensors)

    def _results(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        columns = self.plan.columns
        if not columns:
            return {name: tensors[name] for name in self.outputs}
        last = tensors[self.plan.stages[-1].result]
        return {
            name: np.ascontiguousarray(last[..., slice(*columns[name])]) for name in self.outputs
        }

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Tensors between stages."""
        tensors = dict(inputs)
        for stage in self._stages(tensors):
            yield stage.result, "stage", tensors[stage.result]

    def _stages(self, tensors: dict[str, Array]) -> Iterator[Stage]:
        """Each stage, when its result has been added to `tensors`."""
        plan = self._plan_for(tensors)
        last_reader = {stage.source: index for index, stage in enumerate(plan.stages)}
        for index, stage in enumerate(plan.stages):
            source, result = tensors[stage.source], plan.tensors[stage.result]
            tensors[stage.result] = self._run_stage(stage, source, result)
            if stage.models[0].session == "returning":
                return_freed_memory()
            yield stage
            for name, reader in last_reader.items():
                if reader == index and name not in self.outputs:
                    del tensors[name]

    def _plan_for(self, inputs: Mapping[str, Array]) -> Plan:
        plan = self.plan
        if self.input in inputs and plan.stages[0].repeat is not None:
            plan = for_input(plan, inputs[self.input].shape)
        check_inputs(inputs, {self.input: plan.tensors[self.input].shape}, self.name)
        return plan

    def _run_stage(self, stage: Stage, source: Array, tensor: Tensor) -> Array:
        run = StageRun(stage, self.models)
        if stage.is_whole and not stage.averaged:
            return run.window(stage.windows[0], part_of(source, stage.windows[0].read))
        result: Any = np.zeros(tensor.shape, dtype=tensor.dtype)
        for window in stage.windows:
            part = run.window(window, part_of(source, window.read))
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


class StageRun:
    """One run of a stage's windows, in order, with the lines that it keeps between them."""

    def __init__(self, stage: Stage, models: Mapping[str, Runnable]) -> None:
        self.stage = stage
        self.models = models
        self.kept: dict[tuple[int, str], Array] = {}
        """By strip and state."""

    def window(self, window: Window, part: Array) -> Array:
        """What a window writes, from what it reads (nothing, where its read box is empty)."""
        model = self.stage.models[window.model]
        if not self.stage.strips_take_turns:
            self.kept = {key: kept for key, kept in self.kept.items() if key[0] == window.strip}
        given = {port.name: self.kept[window.strip, port.state] for port in model.before}
        if part.size:
            given[self.stage.input] = part
        results = self.models[model.file].run(given)
        for port in model.after:
            self.kept[window.strip, port.state] = results[port.name]
        written = results[self.stage.output]
        return written if window.take is None else written[at(window.take)]


def open_runnable(bundle: Bundle) -> Runnable:
    """What computes a bundle: its file, or its plan. Raises UsageError."""
    backend = backend_for(bundle.format)
    plan = read_plan(bundle.path)
    if plan is None:
        return backend.load(bundle.model_file)
    names = [tuple(spec.name for spec in specs) for specs in (bundle.inputs, bundle.outputs)]
    return planned_runnable(bundle.path, plan, backend, names[0], names[1])


def planned_runnable(
    folder: Path, plan: Plan, backend: Backend, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Runnable:
    """One file with several outputs has them by itself, and needs no host's loop. Raises UsageError."""
    stage = plan.stages[0]
    if plan.columns and len(plan.stages) == 1 and stage.is_whole:
        (model,) = stage.models
        return backend.load(folder / model.file, model.session, plan.arena_bytes)
    return PlanRunnable(folder, plan, backend, inputs, outputs)


def part_of(tensor: Array, box: Box) -> Array:
    """The box as an array of its own, or the tensor itself where the box is all of it."""
    if all(span == (0, size) for span, size in zip(box, tensor.shape, strict=True)):
        return tensor
    return np.ascontiguousarray(tensor[at(box)])


def at(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
