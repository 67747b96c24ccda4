"""The vectors of `export/vectors`: up to date, of every kind of window, and run by both hosts in Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_vectors import VECTORS, loaded, runner_of, runner_source

from edgekit import UsageError
from edgekit.plan.plan import Plan
from edgekit.plan.runner import planned_runnable

Json = dict[str, Any]


regenerate = loaded("vectors_regenerate", VECTORS / "regenerate.py")
CASES = dict(regenerate.cases())
LONG = ("tiles", "causal", "lookahead", "rows")


def vector(name: str) -> Json:
    found: Json = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in CASES]
)
def test_a_vector_is_what_edgekit_plans_today(name: str) -> None:
    text = (VECTORS / f"{name}.json").read_text(encoding="utf-8")
    assert regenerate.laid_out(regenerate.vector(name, CASES[name])) + "\n" == text, (
        "run `python export/vectors/regenerate.py`"
    )


def test_every_file_has_a_case_and_every_case_a_file() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == set(CASES)


def test_vectors_have_windows_of_every_kind() -> None:
    kinds: set[str] = set()
    for name in CASES:
        plan = Plan.from_json(vector(name)["plan"])
        kinds |= {"columns"} if plan.columns and len(plan.stages) > 1 else set()
        kinds |= {"several stages"} if len(plan.stages) > 1 else set()
        for stage in plan.stages:
            kinds |= set(kinds_of(stage))
    assert kinds == {
        "columns", "several stages", "a whole stage", "mean", "unequal shares", "repetition", "take", "clamped windows",
        "states", "nothing read", "strips in turn", "strips that end", "a state that stays",
    }  # fmt: skip


def kinds_of(stage: Any) -> Iterator[str]:
    windows = stage.windows
    sizes = {tuple(stop - start for start, stop in window.read) for window in windows}
    stateful = any(model.before for model in stage.models)
    found = {
        "a whole stage": stage.is_whole,
        "mean": stage.averaged,
        "unequal shares": len({window.share for window in windows}) > 1,
        "repetition": stage.repeat is not None,
        "take": any(window.take is not None for window in windows),
        "clamped windows": len(sizes) > 1 and not stateful,
        "states": stateful,
        "nothing read": any(0 in {b - a for a, b in window.read} for window in windows),
        "strips in turn": stateful and stage.strips_take_turns,
        "strips that end": stateful and not stage.strips_take_turns and windows[-1].strip > 0,
        "a state that stays": any(
            {port.state for port in model.before} - {port.state for port in model.after}
            for model in stage.models[:-1]
        ),
    }
    return (kind for kind, is_there in found.items() if is_there)


def check(run: Json, calls: list[Json], found: dict[str, Any]) -> None:
    assert [call["model"] for call in calls] == [call["model"] for call in run["calls"]]
    for call, wanted in zip(calls, run["calls"], strict=True):
        assert call["inputs"].keys() == wanted["inputs"].keys()
        for name, given in call["inputs"].items():
            assert given["shape"] == wanted["inputs"][name]["shape"]
            assert given["weighted"] == pytest.approx(wanted["inputs"][name]["weighted"], 1e-4)
    for output in run["outputs"]:
        values = np.array(output["values"], np.float32).reshape(output["shape"])
        np.testing.assert_allclose(found[output["name"]], values, rtol=1e-4, atol=1e-4)


def given(run: Json) -> dict[str, Any]:
    source = run["input"]
    return {source["name"]: np.array(source["values"], np.float32).reshape(source["shape"])}


@pytest.mark.parametrize("name", CASES)
def test_edgekits_runner_makes_the_calls_and_the_outputs(name: str) -> None:
    data = vector(name)
    calls: list[Json] = []
    backend: Any = regenerate.StandIns(data["models"], calls)
    plan = Plan.from_json(data["plan"])
    source = data["runs"][0]["input"]["name"]
    runnable = planned_runnable(Path(), plan, backend, (source,), tuple(data["outputs"]))
    for run in data["runs"]:
        calls.clear()
        if "refused" not in run:
            check(run, calls, runnable.run(given(run)))
        elif name != "one-file":  # there the runtime refuses
            with pytest.raises(UsageError):
                runnable.run(given(run))


def on_a_board(runner: dict[str, Any], data: Json, calls: list[Json]) -> Any:
    """A model of the runner for boards, without onnxruntime's sessions."""
    model: Any = runner["Model"].__new__(runner["Model"])
    model.plan = data["plan"]
    model.manifest = {"outputs": [{"name": output} for output in data["outputs"]]}
    model.opened = {
        file: regenerate.StandIn(file, stand_in, calls) for file, stand_in in data["models"].items()
    }
    return model


@pytest.mark.parametrize("name", CASES)
def test_the_runner_of_boards_makes_the_calls_and_refuses_other_shapes(name: str) -> None:
    data = vector(name)
    runner = runner_of(runner_source())
    calls: list[Json] = []
    model = on_a_board(runner, data, calls)
    for index, run in enumerate(data["runs"]):
        calls.clear()
        if index == 0:
            check(run, calls, model.run(given(run)))
        else:
            with pytest.raises(runner["RunnerError"], match="shape"):
                model.run(given(run))


MISTAKES = {
    "the whole output is written": ('if window["take"] is not None:', "if False:"),
    "windows have equal shares": ('* window["share"]', "* 1.0"),
    "a mean is a sum": ("written.mean(axis=axes", "written.sum(axis=axes"),
    "strips share what they keep": ('kept[strip, port["state"]]', 'kept[0, port["state"]]'),
    "a strip forgets while others run": ("if not turns:", "if True:"),
    "only the first state is kept": (
        'kept[strip, port["state"]] = made[port["name"]]',
        'kept.setdefault((strip, port["state"]), made[port["name"]])',
    ),
    "an empty part is fed": ("if part.size:", "if True:"),
    "all windows read the first": ('source[at(window["read"])]', "source[at(stage['windows'][0]['read'])]"),
    "all windows write the first": ('result[at(window["write"])]', "result[at(stage['windows'][0]['write'])]"),
    "all columns are the first": ('slice(*plan["columns"][name])', 'slice(*plan["columns"][outputs[0]])'),
    "one model serves all": ('stage["models"][window["model"]]', 'stage["models"][0]'),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_host_that_makes_a_mistake_does_not_pass(mistake: str) -> None:
    right, wrong = MISTAKES[mistake]
    source = runner_source()
    assert right in source
    runner = runner_of(source.replace(right, wrong))
    assert not all(passes(runner, vector(name)) for name in CASES)


def passes(runner: dict[str, Any], data: Json) -> bool:
    calls: list[Json] = []
    run = data["runs"][0]
    try:
        check(run, calls, on_a_board(runner, data, calls).run(given(run)))
    except (AssertionError, KeyError, ValueError):
        return False
    return True
