"""The vectors of `export/vectors/boxes`: up to date, and judged by the runner for boards as by edgekit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from host_vectors import VECTORS, loaded, runner_of, runner_source

regenerate = loaded("box_vectors_regenerate", VECTORS / "boxes" / "regenerate.py")
FILE = VECTORS / "boxes" / "suppressed.json"
Json = dict[str, Any]
CASES: list[Json] = json.loads(FILE.read_text(encoding="utf-8"))
PASSING = {
    "nothing differs", "all is off by a rounding", "rows of near scores changed places",
    "one box is shifted, which this gate allows", "one box is missing, which this gate allows",
    "corners are near, overlaps are not", "two that overlap changed places",
    "the box that is missing was just above the threshold",
    "the box too many is just above the threshold", "the box that is missing was all but suppressed",
    "the box too many is all but suppressed",
    "the box that is missing is one more than there is room for",
    "no box was promised, and none is found", "a box of another class stays",
}  # fmt: skip


def test_the_vectors_are_what_edgekit_judges_today() -> None:
    assert regenerate.text() == FILE.read_text(encoding="utf-8"), (
        "run `python export/vectors/boxes/regenerate.py`"
    )


def test_shifted_lost_and_wrong_boxes_fail_and_decisions_that_fell_otherwise_do_not() -> None:
    assert {case["about"] for case in CASES if case["passed"]} == PASSING
    assert len(CASES) > len(PASSING) + 10


def outputs(case: Json, side: str) -> dict[str, Any]:
    specs = case["manifest"]["outputs"]
    return {
        spec["name"]: np.array(case[side][spec["name"]], spec["dtype"]).reshape(spec["shape"])
        for spec in specs
    }


def check(runner: Mapping[str, Any], case: Json) -> None:
    found = runner["golden_check"](
        case["manifest"], outputs(case, "expected"), outputs(case, "found")
    )
    assert found["passed"] == case["passed"]
    for row, wanted in zip(found["outputs"], case["outputs"], strict=True):
        assert (row["name"], row["passed"]) == (wanted["name"], wanted["passed"])
        assert row["psnr_db"] == pytest.approx(wanted["psnr_db"], abs=0.01)
        assert row["max_abs"] == pytest.approx(wanted["max_abs"], abs=1e-4)


def check_all(runner: Mapping[str, Any]) -> None:
    for case in CASES:
        check(runner, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["about"])
def test_the_runner_of_boards_judges_as_edgekit(case: Json) -> None:
    check(runner_of(runner_source()), case)


@pytest.mark.parametrize("name", ["boxes", "scores", "labels"])
def test_an_output_that_cannot_be_compared_fails_all(name: str) -> None:
    case, runner = CASES[0], runner_of(runner_source())
    expected = outputs(case, "expected")
    for broken in (None, np.full_like(expected["scores"], np.nan), expected[name][:, 1:]):
        found = {**expected, name: broken}
        verdict = runner["golden_check"](case["manifest"], expected, found)
        assert not verdict["passed"]
        assert {row["psnr_db"] for row in verdict["outputs"]} == {None}


MISTAKES = {
    "any class is the same": ('ious[ours["labels"][:, None] != theirs["labels"]] = -1', "pass"),
    "boxes need not overlap": (">= SAME_IOU", ">= 0"),
    "a box serves twice": ("free[:, column] = -1", "pass"),
    "the first box that overlaps is taken": (
        "int(free[row].argmax())", "int((free[row] >= SAME_IOU).argmax())",
    ),
    "unused rows are boxes": ('outputs["labels"][0] >= 0', 'outputs["labels"][0] >= -1'),
    "missing boxes are no fault": ("few_lack_twins(ours, own, theirs, ious, within, asked)", "True"),
    "boxes too many are no fault": ("few_lack_twins(theirs, other, ours, ious.T, within, asked)", "True"),
    "none may be missing": ('(1 - asked["matched"]) * len(scores)', "0"),
    "decisions may not fall otherwise": ("lacking = ~(lost | (", "lacking = ~((scores < 0) | ("),
    "the threshold is sharp": ('(scores <= least + asked["score_difference"])', "(scores < least)"),
    "boxes need not be suppressed": ("lost &= ~covered_beside(side, within)", "pass"),
    "there is always room": ('len(others) >= within["limit"]', "False"),
    "overlaps are all averaged": ('[apart > asked["corner_px"]]', ""),
    "overlaps are not asked": ('far.mean() >= asked["mean_iou"]', "True"),
    "scores may differ": ('off.max(initial=0) <= asked["score_difference"]', "True"),
    "decibels are not asked": ('row["passed"] and are_good[name]', "are_good[name]"),
    "corners have an order": ("low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])", "low, high = boxes[:, :2], boxes[:, 2:]"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_host_that_makes_a_mistake_does_not_pass(mistake: str) -> None:
    right, wrong = MISTAKES[mistake]
    assert right in runner_source()
    runner = runner_of(runner_source().replace(right, wrong))
    with pytest.raises((AssertionError, IndexError, KeyError, ValueError)):
        check_all(runner)
