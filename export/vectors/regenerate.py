"""Writes the vectors beside this file: what a host that runs `plan.json` must call, and with what.

python export/vectors/regenerate.py

Plans are those that edgekit makes of small networks. A rule of arithmetic stands in for each model file,
so that a host needs no runtime to show that it reads, keeps and writes the right boxes; README.md has
the rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.backends.runnable import Array
from edgekit.errors import UsageError
from edgekit.model import model_of_module
from edgekit.plan.choose import Request
from edgekit.plan.network import network_of
from edgekit.plan.path import Found, Stretch, Tiling
from edgekit.plan.plan import Plan
from edgekit.plan.runner import planned_runnable
from edgekit.plan.stages import planned
from edgekit.planned_programs import Written, planned_programs
from edgekit.prepared import captured_model
from edgekit.program.program import Program

HERE = Path(__file__).parent
WIDTH = 110
"""Columns of a line in the files, but for long rows of numbers."""


# What plans are made of


class Picture(nn.Module):
    """Strides, a residual, a pool, an enlargement; then classes from a mean, if asked."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 1, 1)
        self.block = nn.Conv2d(4, 4, 3, 1, 1)
        self.deep = nn.Conv2d(4, 2, 3, 1, 1)
        self.head = nn.Linear(2, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + F.relu(self.block(x))
        if self.head is not None:
            return self.head(F.adaptive_avg_pool2d(F.relu(self.deep(x)), 1).flatten(1))
        return self.deep(F.interpolate(F.max_pool2d(x, 2), scale_factor=2))


class Enlarged(nn.Module):
    """Two rows of each: every other row of the result needs no new row of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, 1, 1), nn.Conv2d(2, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.second(F.relu(self.first(x))), scale_factor=2)


class Boxes(nn.Module):
    """N 1 H W to boxes N A 4 and scores N A 2."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.body(x).flatten(2).transpose(1, 2)
        return rows[..., :4], rows[..., 4:]


class Frames(nn.Module):
    """Convolutions in time, of the frames before alone or of both sides; two frames of each."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.before = 2 if causal else 1
        self.first = nn.Conv3d(1, 2, 3, 1, (0, 1, 1))
        self.second = nn.Conv3d(2, 2, 3, 1, (0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.first, self.second):
            x = F.relu(conv(F.pad(x, (0, 0, 0, 0, self.before, 2 - self.before))))
        n, _, t, h, w = x.shape
        return x.view(n, 1, 2, t, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, 1, 2 * t, h, w)


@dataclass(frozen=True)
class Case:
    about: str
    network: nn.Module
    shape: tuple[int, ...]
    request: Request | Tiling
    """A tiling is that of the whole network, whether or not it saves memory."""
    one_file: bool = False
    lengths: tuple[int, ...] = ()
    """Of the streamed dimension, beside the one that is planned for; some do not fit."""


def cases() -> Iterator[tuple[str, Case]]:
    picture, clip = (1, 1, 9, 12), (1, 1, 10, 2, 3)
    yield "one-file", Case(
        "One file that gives both outputs by itself: the host runs it once, whatever `columns` say.",
        Boxes(), picture, Request(tiles=Tiling(2, 2)), one_file=True,
    )  # fmt: skip
    yield "tiles", Case(
        "A whole stage, then a grid of 3x3 tiles: each border and corner has a model of its own, whose "
        "window is clamped to the picture; the padding is inside the models.",
        Picture(), picture, Request(tiles=Tiling(3, 3)),
    )  # fmt: skip
    yield "mean", Case(
        "Tiles of unequal size whose means are summed by their shares, then a whole stage.",
        Picture(3), (1, 1, 9, 7), Request(tiles=Tiling(2, 2)),
    )  # fmt: skip
    yield "columns", Case(
        "Tiles of a network of two outputs, which are columns of the last result.",
        Boxes(), picture, Request(tiles=Tiling(2, 2)),
    )  # fmt: skip
    yield "chunks", Case(
        "Chunks of a clip with an overlap: of each output the part `take` is written.",
        Frames(causal=False), clip, Request(stream_frames=2, overlap=2), lengths=(8, 12, 11),
    )  # fmt: skip
    yield "causal", Case(
        "A stream that keeps frames: a first model, then a steady one with states.",
        Frames(causal=True), clip, Request(stream_frames=2), lengths=(4, 12, 11),
    )  # fmt: skip
    yield "lookahead", Case(
        "A stream that looks ahead, in two strips that take turns, each with states of its own.",
        Frames(causal=False), (1, 1, 10, 2, 4), Request(stream_frames=3, tiles=Tiling(1, 2)),
        lengths=(13, 7),
    )  # fmt: skip
    yield "rows", Case(
        "Two strips one after the other, each a stream of rows: when one begins, nothing is kept. Some "
        "windows read nothing: their models take kept rows only, and are not given the source.",
        Enlarged(), (1, 1, 4, 4), Tiling(8, 2, "rows"),
    )  # fmt: skip


# What stands in for the models


def weighted(values: Array) -> float:
    """The mean of the elements in C order, with weights 1 2 3 4 5 1 2 3 4 5 ..."""
    flat = values.astype(np.float64).ravel()
    weights = np.arange(flat.size) % 5 + 1
    return float((weights * flat).sum() / weights.sum())


def stand_in(
    number: int, outputs: Mapping[str, Any], given: Mapping[str, Array]
) -> dict[str, Array]:
    names = sorted(given)
    shares = np.arange(1, len(names) + 1)
    level = float(
        sum(share * weighted(given[name]) for share, name in zip(shares, names)) / shares.sum()
    )
    made = {}
    for place, name in enumerate(sorted(outputs)):
        steps = np.arange(int(np.prod(outputs[name]))) % 8
        values: Any = level + (number + place) / 2 + steps / 8
        made[name] = values.astype(np.float32).reshape(outputs[name])
    return made


class StandIn:
    """A model file's stand-in, which notes what it was given."""

    reference = "stand-in"
    rounds_to_half = False

    def __init__(self, file: str, model: Mapping[str, Any], calls: list[dict[str, Any]]) -> None:
        self.file, self.model, self.calls = file, model, calls

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        fed = {
            name: {"shape": list(value.shape), "weighted": rounded(weighted(value))}
            for name, value in sorted(inputs.items())
        }
        self.calls.append({"model": self.file, "inputs": fed})
        return stand_in(self.model["number"], self.model["outputs"], inputs)

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        raise NotImplementedError


@dataclass(frozen=True)
class StandIns:
    """A backend in which a path's file is a stand-in."""

    models: Mapping[str, Mapping[str, Any]]
    calls: list[dict[str, Any]]

    def load(self, path: Path, session: str = "", arena_bytes: int = 0) -> StandIn:  # noqa: ARG002  # a backend's
        return StandIn(path.name, self.models[path.name], self.calls)


# The files


def vector(name: str, case: Case) -> dict[str, Any]:
    example = torch.zeros(case.shape)
    model = model_of_module(case.network, example)
    program = captured_model(model).program
    if isinstance(case.request, Tiling):
        plan, parts = tiled_throughout(program, case.request)
    else:
        plan, parts = planned_programs(
            model, program, case.request, "model.onnx", one_file=case.one_file
        )
    names = plain_names(plan, {spec.name for spec in (*program.inputs, *program.outputs)})
    data = renamed(json.loads(json.dumps(plan.to_json())), names)  # its boxes are tuples
    models = {
        file: {
            "number": number,
            "outputs": {names.get(spec.name, spec.name): list(spec.shape) for spec in part.outputs},
        }
        for number, (file, part) in enumerate(sorted(parts.items()))
    }
    return {
        "vector": 1,
        "name": name,
        "about": case.about,
        "plan": data,
        "outputs": [spec.name for spec in program.outputs],
        "models": models,
        "runs": [run(Plan.from_json(data), program, models, shape) for shape in shapes(plan, case)],
    }


def plain_names(plan: Plan, doors: set[str]) -> dict[str, str]:
    """Instead of the names that the graph gave: those change with versions of torch, and mean nothing."""
    names: dict[str, str] = {}
    for stage in plan.stages:
        for name in (stage.source, stage.result, stage.input, stage.output):
            if name not in doors:
                names.setdefault(name, f"between_{len(names)}")
        for model in stage.models:
            for side, ports in (("before", model.before), ("after", model.after)):
                for port in ports:
                    state = names.setdefault(port.state, f"kept_{len(names)}")
                    names.setdefault(port.name, f"{state}_{side}")
    return names


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """No field of a plan has the name of a tensor in these networks."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def tiled_throughout(program: Program, tiling: Tiling) -> Written:
    network = network_of(program)
    (source,), (result,) = network.inputs, network.outputs
    stretch = Stretch(source, result, result, tiling, 0, 0, 0, 0.0)
    made = planned(network, Found((stretch,), 0, 0), program, ".onnx")
    (built,) = made.stages
    files = [model.file for model in built.stage.models]
    return made.plan, dict(zip(files, built.programs, strict=True))


def shapes(plan: Plan, case: Case) -> Iterator[tuple[int, ...]]:
    yield case.shape
    repeat = plan.stages[0].repeat
    dim = repeat.dim if repeat is not None else 0
    for length in case.lengths:
        yield (*case.shape[:dim], length, *case.shape[dim + 1 :])
    yield (*case.shape[:-1], case.shape[-1] + 1)


def run(
    plan: Plan, program: Program, models: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    """What comes of an input of a shape; its elements are the numbers below 101, in a fixed disorder."""
    ((given, *_), outputs) = program.inputs, tuple(spec.name for spec in program.outputs)
    calls: list[dict[str, Any]] = []
    backend: Any = StandIns(models, calls)
    runnable = planned_runnable(HERE, plan, backend, (given.name,), outputs)
    values = (37 * np.arange(int(np.prod(shape))) % 101).astype(np.float32).reshape(shape)
    # One file by itself has a runtime that refuses shapes; stand-ins take all.
    if not hasattr(runnable, "plan") and shape != given.shape:
        return {"input": of_array(given.name, values), "refused": True}
    try:
        results = runnable.run({given.name: values})
    except UsageError:
        return {"input": of_array(given.name, values), "refused": True}
    return {
        "input": of_array(given.name, values),
        "calls": calls,
        "outputs": [of_array(name, results[name]) for name in outputs],
    }


def of_array(name: str, values: Array) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(values.shape),
        "values": [rounded(float(value)) for value in values.ravel()],
    }


def rounded(value: float) -> float | int:
    """Six decimals are more than hosts are compared by."""
    short = round(value, 6)
    return int(short) if short.is_integer() else short


def laid_out(value: Any, indent: int = 0) -> str:
    """JSON whose lines are short where they can be, and whose rows of numbers are one line."""
    line = json.dumps(value, ensure_ascii=False)
    numbers = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    if not isinstance(value, dict | list) or numbers or indent + len(line) <= WIDTH:
        return line
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        items = [
            f"{json.dumps(key)}: {laid_out(item, indent + 1 + len(key) + 4)}"
            if not isinstance(item, dict | list)
            else f"{json.dumps(key)}: {laid_out(item, indent + 1)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(pad + item for item in items) + "\n" + " " * indent + "}"
    items = [laid_out(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(pad + item for item in items) + "\n" + " " * indent + "]"


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of each file."""
    for name, case in cases():
        yield f"{name}.json", laid_out(vector(name, case)) + "\n"


if __name__ == "__main__":
    for file, text in texts():
        (HERE / file).write_text(text, encoding="utf-8")
