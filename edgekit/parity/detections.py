"""Detections of a written file against those of the model, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections, rows_in_use
from edgekit.detection.matching import Matches, matched
from edgekit.detection.suppression import suppressed
from edgekit.parity.compare import compare
from edgekit.report import DetectionGate, DetectionParity, Gate, Report

Array = npt.NDArray[np.generic]
Outputs = Mapping[str, Array]
ENOUGH = 20
"""Fewer boxes above the working threshold prove little: then as many of the best are compared."""


def judge(
    expected: Outputs,
    actual: Outputs,
    specs: tuple[TensorSpec, ...],
    gate: Gate,
    reference: str,
    boxes: Boxes | None = None,
    within: Thresholds | None = None,
) -> Report:
    """Every output by its numbers and, of a detector, what is seen of it by matching boxes.

    `within` are the thresholds of a file that suppresses by itself. Its rows are brought into the
    model's order before they are compared number by number, since near scores may change places.
    """
    if boxes is None:
        return compare(expected, actual, specs, gate, reference)
    asked = gate.detections or DetectionGate()
    least = gate.psnr_db if asked.psnr_db is None else asked.psnr_db
    tensor_gate = replace(gate, psnr_db=least)
    if not _comparable(expected, actual, specs):
        return compare(expected, actual, specs, tensor_gate, reference)
    if within is None:
        seen = _threshold(expected, boxes)
        ours, theirs = (_chosen(outputs, seen) for outputs in (expected, actual))
        pairs = matched(ours, theirs)
        report = compare(expected, actual, specs, tensor_gate, reference)
    else:
        seen = within
        ours, theirs = rows_in_use(expected), rows_in_use(actual)
        pairs = matched(ours, theirs)
        report = compare(
            _rows(ours.at(pairs.expected)), _rows(theirs.at(pairs.found)), specs, tensor_gate, reference
        )  # fmt: skip
    parity = _parity(ours, theirs, pairs, seen, asked)
    return replace(
        report, gate=replace(tensor_gate, detections=asked), detections=parity,
        passed=report.passed and parity.passed,
    )  # fmt: skip


def shows_too_little(expected: Outputs, within: Thresholds | None) -> bool:
    """Whether a file that suppresses by itself leaves so few boxes that they prove little of it."""
    return within is not None and len(rows_in_use(expected)) < min(ENOUGH, within.limit)


def _comparable(expected: Outputs, actual: Outputs, specs: tuple[TensorSpec, ...]) -> bool:
    """Whether both sides have all outputs, of one shape and finite; else `compare` says what is wrong."""
    return all(
        spec.name in expected
        and spec.name in actual
        and expected[spec.name].shape == actual[spec.name].shape
        and all(np.isfinite(side[spec.name]).all() for side in (expected, actual))
        for spec in specs
    )


def _threshold(expected: Outputs, boxes: Boxes) -> Thresholds:
    asked = boxes.thresholds()
    if len(_chosen(expected, asked)) >= min(ENOUGH, boxes.limit):
        return asked
    best = _chosen(expected, replace(asked, score=0.0, limit=min(ENOUGH, boxes.limit)))
    lowest = float(best.scores.min(initial=asked.score))
    return replace(
        asked, score=min(asked.score, float(np.nextafter(np.float32(lowest), np.float32(0))))
    )


def _chosen(outputs: Outputs, seen: Thresholds) -> Detections:
    boxes, scores = (np.asarray(outputs[name][0], np.float32) for name in ("boxes", "scores"))
    return suppressed(boxes, scores, seen.score, seen.iou, seen.limit)


def _rows(found: Detections) -> dict[str, Array]:
    return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}


def _parity(
    ours: Detections, theirs: Detections, pairs: Matches, seen: Thresholds, gate: DetectionGate
) -> DetectionParity:
    missing = _unmatched(ours, pairs.expected, theirs, seen, gate.score_difference)
    extra = _unmatched(theirs, pairs.found, ours, seen, gate.score_difference)
    differences = np.abs(
        ours.scores[pairs.expected].astype(np.float64) - theirs.scores[pairs.found]
    )
    return DetectionParity(
        score=seen.score,
        iou=seen.iou,
        expected=len(ours),
        found=len(theirs),
        matched=len(pairs.ious),
        missing=missing,
        extra=extra,
        mean_iou=float(pairs.ious.mean()) if len(pairs.ious) else float("nan"),
        least_iou=float(pairs.ious.min()) if len(pairs.ious) else float("nan"),
        max_score_difference=float(differences.max(initial=0.0)),
        gate=gate,
    )


def _unmatched(
    own: Detections, used: npt.NDArray[np.intp], other: Detections, seen: Thresholds, margin: float
) -> int:
    """Boxes without a twin, save those so near to where the other side stops that it may not show them."""
    full = len(other) >= seen.limit
    stops_at = max(seen.score, float(other.scores.min())) if full else seen.score
    alone = np.ones(len(own), dtype=bool)
    alone[used] = False
    return int(np.count_nonzero(alone & (own.scores > stops_at + margin)))
