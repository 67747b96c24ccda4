"""A plan as plain data: stages, their windows, and what they are predicted to need.

Runtimes that are not Python read the same `plan.json`; every number in it is an index or a size in
elements, every box a list of [start, stop) per dimension.

A host runs a stage's windows in order. Each reads a box of the source tensor and writes a box of the
result. In a stream a model also takes what earlier windows of the same strip have kept, and gives what
later ones read again: a host stores each of its `after` outputs under its state's name, and feeds the
stored value to the `before` input of that state; what is stored stays until it is stored anew, or until
the strip ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from edgekit.errors import UsageError

FILE = "plan.json"
PlanSession = Literal["frugal", "returning"]
"""How onnxruntime holds the tensors of a model's runs: in the arena that all sessions of a plan share, or
each by itself, given back to the system when it is dead."""
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tensor:
    """A whole tensor that lives between stages."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Port(Tensor):
    """Where a model takes, or gives, lines that a stream keeps."""

    state: str
    """One name for the kept lines of one tensor, in all models of a stage."""
    name: str
    """The model's own input or output."""


@dataclass(frozen=True)
class ModelFile:
    """One of a stage's models."""

    file: str
    before: tuple[Port, ...] = ()
    after: tuple[Port, ...] = ()
    session: PlanSession = "frugal"


@dataclass(frozen=True)
class Window:
    """One run of one of a stage's models: read a box, compute, write a box."""

    model: int
    """Index into the stage's models: tiles at borders differ from those inside."""
    read: Box
    """Of the stage's source tensor. Empty where a model takes kept lines only."""
    write: Box
    """Of the stage's result tensor; for a mean, of the whole of it."""
    share: float = 1.0
    """For a mean over the image: the share of it that these elements are."""
    strip: int = 0
    """Whose kept lines are meant: a stream may run in several strips, step by step."""
    take: Box | None = None
    """The part of the model's output that is written; None: all of it."""


@dataclass(frozen=True)
class Repeat:
    """Windows that follow `times` times in a row, each time a bit further on.

    Run more or less often, they make the plan that of a longer or shorter input, down to none.
    """

    first: int
    """Index of the first window."""
    windows: int
    """How many make one repetition."""
    times: int
    dim: int
    """The dimension of the source along which they move, by `read_by` elements a repetition."""
    read_by: int
    result_dim: int
    write_by: int


@dataclass(frozen=True)
class Stage:
    """One or a few model files, run once for each window."""

    models: tuple[ModelFile, ...]
    source: str
    result: str
    input: str
    """The models' own names."""
    output: str
    windows: tuple[Window, ...]
    averaged: bool = False
    """The results of all windows are summed, each multiplied by its share."""
    repeat: Repeat | None = None

    @cached_property
    def strips_take_turns(self) -> bool:
        """Whether several strips keep lines at once; else each is over when the next one begins."""
        strips = [window.strip for window in self.windows]
        return strips != sorted(strips)

    @property
    def is_whole(self) -> bool:
        return len(self.windows) == 1


@dataclass(frozen=True)
class Plan:
    arena_bytes: int
    """First chunk of the arena that the sessions share: what one run holds at once."""
    tensors: Mapping[str, Tensor]
    """Inputs and outputs of the model under their contract's names, and what lives between stages."""
    stages: tuple[Stage, ...]
    whole_peak_bytes: int
    """Predicted: live activations of the unplanned network."""
    peak_bytes: int
    """Predicted: live activations of the plan, with whole tensors and windows counted."""
    mac_overhead: float
    columns: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Where a model has several outputs: what each is of the last result, along its last dimension."""

    def session_settings(self, session: PlanSession) -> dict[str, Any]:
        """What the peak was planned for, by onnxruntime's own names.

        No memory patterns, and no tensor that takes the buffer of another.
        """
        settings: dict[str, Any] = {
            "name": session, "enable_mem_pattern": False, "enable_mem_reuse": False
        }  # fmt: skip
        if session == "returning":
            return settings | {"enable_cpu_mem_arena": False}
        shared = {"session.use_env_allocators": "1", "initial_chunk_size_bytes": self.arena_bytes}
        return settings | shared

    @property
    def models(self) -> dict[str, ModelFile]:
        """By file."""
        return {model.file: model for stage in self.stages for model in stage.models}

    def to_json(self) -> dict[str, Any]:
        used = {model.session for model in self.models.values()}
        return {
            "schema": 1,
            "arena_bytes": self.arena_bytes,
            "sessions": {name: self.session_settings(name) for name in sorted(used)},
            "tensors": {name: asdict(tensor) for name, tensor in self.tensors.items()},
            "stages": [asdict(stage) for stage in self.stages],
            "whole_peak_bytes": self.whole_peak_bytes,
            "peak_bytes": self.peak_bytes,
            "mac_overhead": self.mac_overhead,
            "columns": {name: list(span) for name, span in self.columns.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Raises KeyError, TypeError or ValueError."""
        if data["schema"] != 1:
            raise ValueError(f"schema {data['schema']}")
        return cls(
            int(data["arena_bytes"]),
            {
                name: Tensor(tuple(tensor["shape"]), str(tensor["dtype"]))
                for name, tensor in data["tensors"].items()
            },
            tuple(_stage(stage) for stage in data["stages"]),
            int(data["whole_peak_bytes"]),
            int(data["peak_bytes"]),
            float(data["mac_overhead"]),
            {name: (int(start), int(stop)) for name, (start, stop) in data["columns"].items()},
        )


def _stage(data: Mapping[str, Any]) -> Stage:
    models = tuple(
        ModelFile(
            str(model["file"]), _ports(model["before"]), _ports(model["after"]), model["session"]
        )
        for model in data["models"]
    )
    for model in models:
        if model.session not in get_args(PlanSession):
            raise ValueError(f"session '{model.session}'")
    windows = tuple(
        Window(
            int(window["model"]), _box(window["read"]), _box(window["write"]),
            float(window["share"]), int(window["strip"]),
            None if window["take"] is None else _box(window["take"]),
        )
        for window in data["windows"]
    )  # fmt: skip
    if not all(0 <= window.model < len(models) for window in windows):
        raise ValueError("a window names a model that its stage lacks")
    repeat = None if data["repeat"] is None else Repeat(**data["repeat"])
    if repeat is not None and not _is_sound(repeat, windows):
        raise ValueError("its repetition does not fit its windows")
    return Stage(
        models,
        str(data["source"]),
        str(data["result"]),
        str(data["input"]),
        str(data["output"]),
        windows,
        bool(data["averaged"]),
        repeat,
    )


def _is_sound(repeat: Repeat, windows: tuple[Window, ...]) -> bool:
    return (
        min(repeat.windows, repeat.times, repeat.read_by, repeat.write_by) > 0
        and 0 <= repeat.first <= len(windows) - repeat.windows * repeat.times
        and all(0 <= repeat.dim < len(window.read) for window in windows)
        and all(0 <= repeat.result_dim < len(window.write) for window in windows)
    )


def _ports(ports: list[Mapping[str, Any]]) -> tuple[Port, ...]:
    return tuple(
        Port(tuple(p["shape"]), str(p["dtype"]), str(p["state"]), str(p["name"])) for p in ports
    )


def _box(spans: list[list[int]]) -> Box:
    return tuple((int(start), int(stop)) for start, stop in spans)


def write_plan(folder: Path, plan: Plan) -> None:
    (folder / FILE).write_text(json.dumps(plan.to_json(), indent=1) + "\n", encoding="utf-8")


def read_plan(folder: Path) -> Plan | None:
    """The folder's plan, or None if it has none. Raises UsageError for one that is damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is damaged ({error}); export the model again.") from error
