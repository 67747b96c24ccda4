"""Writes the vectors beside this file: when a host must find a detector's boxes to be those that were promised.

python export/vectors/boxes/regenerate.py

The boxes are of files that suppress by themselves, and the judge is edgekit's own; ../README.md has the rule in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.parity.detections import Outputs, judge
from edgekit.report import DetectionGate, DetectionParity, Gate

HERE = Path(__file__).parent
ROWS, IN_USE, CLASSES = 12, 10, 2
SIDE = 20
"""Of boxes, in pixels."""
ALL_BUT_COVERED = 5.2
"""Pixels between two boxes that overlap by 0.587, a little less than suppression asks for."""
SPECS = (
    TensorSpec("boxes", (1, ROWS, 4), low=0.0, high=160.0),
    TensorSpec("scores", (1, ROWS), low=0.0, high=1.0),
    TensorSpec("labels", (1, ROWS), "int64"),
)
WITHIN = Thresholds(score=0.3, iou=0.6, limit=ROWS)
STRICT = DetectionGate(0.95, 0.95, 0.5, 0.02)
ROUGH = replace(STRICT, psnr_db=20.0)
LAX = DetectionGate(0.85, 0.5, 3.0, 0.2, psnr_db=20.0)
BOXES = Boxes(CLASSES, ("one", "two"), (8,), (1,), "stretch")


@dataclass(frozen=True)
class Rows:
    """In use, best score first."""

    boxes: Any
    scores: Any
    labels: Any

    def without(self, *rows: int) -> Rows:
        return Rows(*(np.delete(part, rows, axis=0) for part in self.parts()))

    def with_one(self, box: list[float], score: float, label: int) -> Rows:
        more = ([box], [score], [label])
        return Rows(*(np.concatenate(pair) for pair in zip(self.parts(), more, strict=True)))

    def shifted(self, pixels: float, *rows: int) -> Rows:
        boxes = self.boxes.copy()
        boxes[list(rows) or slice(None), ::2] += pixels
        return replace(self, boxes=boxes)

    def scored(self, row: int, score: float) -> Rows:
        scores = self.scores.copy()
        scores[row] = score
        return replace(self, scores=scores)

    def labelled(self, row: int, label: int) -> Rows:
        labels = self.labels.copy()
        labels[row] = label
        return replace(self, labels=labels)

    def in_order(self, order: list[int]) -> Rows:
        return Rows(*(part[order] for part in self.parts()))

    def parts(self) -> tuple[Any, Any, Any]:
        return self.boxes, self.scores, self.labels

    def outputs(self) -> Outputs:
        unused = ROWS - len(self.scores)
        boxes = np.pad(self.boxes, ((0, unused), (0, 0))).astype(np.float32)
        scores = np.pad(self.scores, (0, unused)).astype(np.float32)
        labels = np.pad(self.labels, (0, unused), constant_values=-1).astype(np.int64)
        return {"boxes": boxes[None], "scores": scores[None], "labels": labels[None]}


def promised() -> Rows:
    """Two rows of five, the last but one with its corners the other way, the last just above the threshold."""
    left, top = np.arange(IN_USE) % 5 * 30.0, np.arange(IN_USE) // 5 * 30.0
    boxes = np.stack([left, top, left + SIDE, top + SIDE], -1)
    boxes[-2] = boxes[-2, [2, 3, 0, 1]]
    scores = np.array([0.95, 0.9, 0.85, 0.845, 0.8, 0.7, 0.6, 0.5, 0.4, 0.31])
    return Rows(boxes, scores, np.arange(IN_USE) % CLASSES)


@dataclass(frozen=True)
class Case:
    about: str
    expected: Rows
    found: Rows
    gate: DetectionGate = STRICT
    within: Thresholds = WITHIN


def cases() -> Iterator[Case]:
    rows = promised()
    neighbour = [ALL_BUT_COVERED, 0.0, ALL_BUT_COVERED + SIDE, SIDE]
    two = rows.with_one(neighbour, 0.75, 0).in_order([*range(5), 10, *range(5, 10)])
    full = replace(WITHIN, limit=IN_USE - 1)
    yield Case("nothing differs", rows, rows)
    yield Case("all is off by a rounding", rows, rows.shifted(0.001).scored(0, 0.95001))
    yield Case(
        "rows of near scores changed places", rows, rows.in_order([0, 1, 3, 2, *range(4, 10)])
    )
    yield Case("all boxes are shifted", rows, rows.shifted(2.0))
    yield Case("all boxes are a little shifted", rows, rows.shifted(0.4))
    yield Case("one box is shifted", rows, rows.shifted(2.0, 4))
    yield Case("one box is shifted, which this gate allows", rows, rows.shifted(2.0, 4), LAX)
    yield Case("one box lies elsewhere", rows, rows.shifted(60.0, 4))
    yield Case("one box has another class", rows, rows.labelled(4, 1))
    yield Case("one box is missing", rows, rows.without(4))
    yield Case("one box is missing, which this gate allows", rows, rows.without(4), LAX)
    yield Case("two boxes are missing", rows, rows.without(2, 4), LAX)
    yield Case("no box is left", rows, rows.without(*range(IN_USE)))
    yield Case("there is one box too many", rows.without(4), rows)
    box = [0.0, 0.0, float(SIDE), float(SIDE)]
    yield Case("a box was not suppressed", rows, rows.with_one(box, 0.35, 0))
    yield Case("a box of another class stays", *[rows.with_one(box, 0.35, 1)] * 2)
    yield Case("one score is another", rows, rows.scored(4, 0.75))
    yield Case("one box is shifted, at few decibels", rows, rows.shifted(2.0, 4), ROUGH)
    yield Case("one score is another, at few decibels", rows, rows.scored(4, 0.75), ROUGH)
    sharp = replace(ROUGH, mean_iou=0.99)
    yield Case("corners are near, overlaps are not", rows, rows.shifted(0.4, 4), sharp)
    yield Case(
        "two that overlap changed places", two, two.in_order([5, *range(1, 5), 0, *range(6, 11)])
    )
    yield Case("the box that is missing was just above the threshold", rows, rows.without(9))
    yield Case("the box too many is just above the threshold", rows.without(9), rows)
    yield Case("the box that is missing was all but suppressed", two, rows)
    yield Case("the box too many is all but suppressed", rows, two)
    best = rows.without(9)
    yield Case(
        "the box that is missing is one more than there is room for", best,
        rows.without(8).scored(8, 0.39), STRICT, full,
    )  # fmt: skip
    yield Case("no box was promised, and none is found", *[rows.without(*range(IN_USE))] * 2)


def judged(case: Case) -> dict[str, Any]:
    """What the manifest says, what was promised and found, and edgekit's verdict."""
    gate = Gate(60.0, 0.0, case.gate)
    expected, found = case.expected.outputs(), case.found.outputs()
    report = judge(expected, found, SPECS, gate, "edgekit", BOXES, case.within)
    assert report.detections is not None
    good = are_good(report.detections)
    outputs = []
    for output in report.outputs:
        told = output.to_json()
        passed = output.passed and good[output.name]
        is_measured = output.name != "labels" or passed
        outputs.append({
            "name": output.name,
            "psnr_db": short(told["psnr_db"], 3) if is_measured else None,
            "max_abs": short(told["max_abs"]) if is_measured else None,
            "passed": passed,
        })  # fmt: skip
    assert report.passed == all(output["passed"] for output in outputs), case.about
    return {
        "about": case.about,
        "manifest": {
            "outputs": [spec.to_json() for spec in SPECS],
            "gate": gate.to_json(),
            "suppression": {
                "score": case.within.score, "iou": case.within.iou, "limit": case.within.limit
            },
        },
        "expected": values(expected),
        "found": values(found),
        "passed": report.passed,
        "outputs": outputs,
    }  # fmt: skip


def are_good(parity: DetectionParity) -> dict[str, bool]:
    """Which output a host blames for what edgekit says of boxes."""
    gate = parity.gate
    counts = (parity.missing, parity.expected), (parity.extra, parity.found)
    return {
        "boxes": not parity.mean_iou_apart < gate.mean_iou,
        "scores": parity.max_score_difference <= gate.score_difference,
        "labels": all(lacking <= (1 - gate.matched) * rows for lacking, rows in counts),
    }


def values(outputs: Outputs) -> dict[str, list[float]]:
    return {
        name: [short(value) for value in array.ravel().tolist()] for name, array in outputs.items()
    }


def short(value: Any, digits: int = 6) -> Any:
    rounded = round(value, digits)
    return int(rounded) if float(rounded).is_integer() else rounded


def text() -> str:
    """Each field of a case is a line."""
    return "[\n" + ",\n".join(laid_out(judged(case)) for case in cases()) + "\n]\n"


def laid_out(fields: Mapping[str, Any]) -> str:
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return " {\n" + ",\n".join(lines) + "\n }"


if __name__ == "__main__":
    (HERE / "suppressed.json").write_text(text(), encoding="utf-8")
