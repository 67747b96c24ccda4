"""Detections of a written file against those of the model, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections, Floats, rows_in_use
from edgekit.detection.matching import matched
from edgekit.detection.suppression import suppressed
from edgekit.parity.compare import compare
from edgekit.parity.near_ties import Mask, OtherSide, near_ties
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
        model, file = (
            OtherSide(_chosen(outputs, seen), _candidates(outputs))
            for outputs in (expected, actual)
        )
        both, notes = _without_lost_peaks(expected, actual)
        report = compare(*both, specs, tensor_gate, reference)
        report = replace(report, notes=(*report.notes, *notes))
    else:
        seen = within
        model, file = (OtherSide(rows_in_use(outputs), None) for outputs in (expected, actual))
        pairs = matched(model.shown, file.shown)
        rows = _rows(model.shown.at(pairs.expected)), _rows(file.shown.at(pairs.found))
        report = compare(*rows, specs, tensor_gate, reference)
    parity = _parity(model, file, boxes, seen, asked)
    return replace(
        report, gate=replace(tensor_gate, detections=asked), detections=parity,
        passed=report.passed and parity.passed,
    )  # fmt: skip


def _without_lost_peaks(
    expected: Outputs, actual: Outputs
) -> tuple[tuple[Outputs, Outputs], list[str]]:
    """Scores that are 0 on one side only are a decision that fell otherwise: boxes judge it, not decibels."""
    ours, theirs = expected["scores"], actual["scores"]
    lost = (ours == 0) != (theirs == 0)
    count = int(np.count_nonzero(lost))
    if not count:
        return (expected, actual), []
    note = f"{count} of {ours.size} scores are 0 on one side only, as where a peak test falls the other way: boxes judge these"
    kept = tuple(
        {**side, "scores": np.where(lost, 0, side["scores"])} for side in (expected, actual)
    )
    return (kept[0], kept[1]), [note]


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
    boxes, scores = _candidates(outputs)
    return suppressed(boxes, scores, seen.score, seen.iou, seen.limit)


def _rows(found: Detections) -> dict[str, Array]:
    return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}


def _candidates(outputs: Outputs) -> tuple[Floats, Floats]:
    boxes, scores = (np.asarray(outputs[name][0], np.float32) for name in ("boxes", "scores"))
    return boxes, scores


def _parity(
    model: OtherSide, file: OtherSide, boxes: Boxes, seen: Thresholds, gate: DetectionGate
) -> DetectionParity:
    ours, theirs = model.shown, file.shown
    pairs = matched(ours, theirs)
    ours_tied = near_ties(ours, file, boxes, seen, gate)
    theirs_tied = near_ties(theirs, model, boxes, seen, gate)
    # Without candidates a box that moved cannot be told from another one that won.
    apart = np.abs(ours.boxes[pairs.expected] - theirs.boxes[pairs.found]).max(-1, initial=0.0)
    poor = (pairs.ious < gate.mean_iou) & (apart > gate.corner_px) & (file.candidates is not None)
    decided = poor & ours_tied[pairs.expected] & theirs_tied[pairs.found]
    kept = ~decided
    missing, near = _unmatched(ours, pairs.expected[kept], ours_tied, theirs, seen, gate)
    extra, _ = _unmatched(theirs, pairs.found[kept], theirs_tied, ours, seen, gate)
    ious = pairs.ious[kept]
    far = ious[apart[kept] > gate.corner_px]
    differences = np.abs(
        ours.scores[pairs.expected[kept]].astype(np.float64) - theirs.scores[pairs.found[kept]]
    )
    return DetectionParity(
        score=seen.score,
        iou=seen.iou,
        expected=len(ours),
        found=len(theirs),
        matched=len(ious),
        near_ties=near,
        missing=missing,
        extra=extra,
        mean_iou=float(ious.mean()) if len(ious) else float("nan"),
        least_iou=float(ious.min()) if len(ious) else float("nan"),
        mean_iou_apart=float(far.mean()) if len(far) else float("nan"),
        max_corner_px=float(apart[kept].max(initial=0.0)),
        max_score_difference=float(differences.max(initial=0.0)),
        gate=gate,
    )


def _unmatched(
    own: Detections, used: npt.NDArray[np.intp], tied: Mask, other: Detections, seen: Thresholds,
    gate: DetectionGate,
) -> tuple[int, int]:  # fmt: skip
    """Boxes without a twin, and those whose twin is a near tie or just not shown."""
    full = len(other) >= seen.limit
    stops_at = max(seen.score, float(other.scores.min())) if full else seen.score
    alone = np.ones(len(own), dtype=bool)
    alone[used] = False
    is_excused = tied | (own.scores <= stops_at + gate.score_difference)
    return int(np.count_nonzero(alone & ~is_excused)), int(np.count_nonzero(alone & is_excused))
