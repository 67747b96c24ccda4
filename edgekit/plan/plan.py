"""A plan as plain data: stages, their windows, and what they are predicted to need.

Runtimes that are not Python read the same `plan.json`; every number in it is an index or a size in
elements, every box a list of [start, stop) per dimension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.errors import UsageError

FILE = "plan.json"
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
class Window:
    """One run of one of a stage's models: read a box, compute, write a box."""

    model: int
    """Index into the stage's models: tiles at borders differ from those inside."""
    read: Box
    """Of the stage's source tensor."""
    write: Box
    """Of the stage's result tensor; for a mean, of the whole of it."""
    share: float = 1.0
    """For a mean over the image: the share of it that these elements are."""


@dataclass(frozen=True)
class Stage:
    """One or a few model files, run once for each window."""

    models: tuple[str, ...]
    source: str
    result: str
    input: str
    """The models' own names."""
    output: str
    windows: tuple[Window, ...]
    averaged: bool = False
    """The results of all windows are summed, each multiplied by its share."""

    @property
    def is_whole(self) -> bool:
        return len(self.windows) == 1


@dataclass(frozen=True)
class Plan:
    session: Literal["serving", "unrolled"]
    """onnxruntime's settings that the peak was planned for: several sessions on one arena without
    memory patterns, or one file whose windows do not take each other's buffers."""
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

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "session": {
                "name": self.session,
                "enable_mem_pattern": False,
                "enable_mem_reuse": self.session != "unrolled",
                "session.use_env_allocators": "1",
                "initial_chunk_size_bytes": self.arena_bytes,
            },
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": tensor.dtype}
                for name, tensor in self.tensors.items()
            },
            "stages": [
                {
                    "models": list(stage.models),
                    "source": stage.source,
                    "result": stage.result,
                    "input": stage.input,
                    "output": stage.output,
                    "averaged": stage.averaged,
                    "windows": [
                        {
                            "model": window.model,
                            "read": [list(span) for span in window.read],
                            "write": [list(span) for span in window.write],
                            "share": window.share,
                        }
                        for window in stage.windows
                    ],
                }
                for stage in self.stages
            ],
            "whole_peak_bytes": self.whole_peak_bytes,
            "peak_bytes": self.peak_bytes,
            "mac_overhead": self.mac_overhead,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Raises KeyError, TypeError or ValueError."""
        session = data["session"]["name"]
        if data["schema"] != 1 or session not in ("serving", "unrolled"):
            raise ValueError(f"schema {data['schema']}, session '{session}'")
        for stage in data["stages"]:
            if not all(0 <= window["model"] < len(stage["models"]) for window in stage["windows"]):
                raise ValueError("a window names a model that its stage lacks")
        return cls(
            session,
            int(data["session"]["initial_chunk_size_bytes"]),
            {
                name: Tensor(tuple(tensor["shape"]), str(tensor["dtype"]))
                for name, tensor in data["tensors"].items()
            },
            tuple(
                Stage(
                    tuple(stage["models"]), stage["source"], stage["result"], stage["input"], stage["output"],
                    tuple(
                        Window(int(w["model"]), _box(w["read"]), _box(w["write"]), float(w["share"]))
                        for w in stage["windows"]
                    ),
                    bool(stage["averaged"]),
                )
                for stage in data["stages"]
            ),
            int(data["whole_peak_bytes"]),
            int(data["peak_bytes"]),
            float(data["mac_overhead"]),
        )  # fmt: skip


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
