"""Why a box may lack its twin although nothing is computed wrongly: two scores that are all but equal.

Suppression and peak tests are decisions. Where the better of two boxes wins by less than the rounding
of another runtime, or of half precision, the other one may win there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.box_contract import Boxes, Thresholds
from edgekit.detection.detections import Detections, Floats
from edgekit.detection.suppression import overlaps
from edgekit.report import DetectionGate

NEIGHBOURHOOD = 2.5
"""Cells between a candidate and the one that took its peak, with the offsets that both have."""
IOU_MARGIN = 0.05
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class OtherSide:
    """What is known of the side that lacks a box."""

    shown: Detections
    candidates: tuple[Floats, Floats] | None
    """Boxes A 4 and scores A C; None of a file that suppresses by itself."""


def near_ties(
    own: Detections, other: OtherSide, boxes: Boxes, seen: Thresholds, gate: DetectionGate
) -> Mask:
    """Of each box: whether the other side has it as a candidate, or else shows what it lost to."""
    if not len(own):
        return np.zeros(0, dtype=bool)
    if other.candidates is None:
        return _lost_to_a_shown_one(own, other.shown, seen, gate) & ~_covered_beside(own, seen)
    corners, scores = other.candidates
    columns = scores[:, own.labels].T  # per own box: what each candidate scores in its class
    apart = np.abs(own.boxes[:, None] - corners).max(-1)
    is_twin = (overlaps(own.boxes, corners) >= gate.mean_iou) | (apart <= gate.corner_px)
    is_as_good = np.abs(columns - own.scores[:, None]) <= gate.score_difference
    is_there = (is_twin & is_as_good).any(1)
    is_better = columns >= own.scores[:, None] - gate.score_difference
    is_near = _distances(own.boxes, corners) <= NEIGHBOURHOOD * max(boxes.strides)
    lost_its_peak = (is_twin & (columns == 0)).any(1) & (is_near & is_better).any(1)
    result: Mask = is_there | lost_its_peak
    return result


def _lost_to_a_shown_one(
    own: Detections, shown: Detections, seen: Thresholds, gate: DetectionGate
) -> Mask:
    covers = overlaps(own.boxes, shown.boxes) > seen.iou - IOU_MARGIN
    is_as_good = shown.scores >= own.scores[:, None] - gate.score_difference
    result: Mask = (covers & is_as_good & (shown.labels == own.labels[:, None])).any(1)
    return result


def _covered_beside(own: Detections, seen: Thresholds) -> Mask:
    """Rows that a row before them covers by more than suppression lets stay: no tie on the other side explains them."""
    covers = overlaps(own.boxes, own.boxes) > seen.iou + IOU_MARGIN
    is_before = np.tri(len(own), k=-1, dtype=bool)
    result: Mask = (covers & is_before & (own.labels == own.labels[:, None])).any(1)
    return result


def _distances(boxes: Floats, others: Floats) -> Floats:
    """Between centres, N M, in pixels."""
    first, second = ((side[:, :2] + side[:, 2:]) / 2 for side in (boxes, others))
    apart: Floats = np.linalg.norm(first[:, None] - second, axis=-1).astype(np.float32)
    return apart
