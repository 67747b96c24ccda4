"""Which boxes of two results are the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.detection.detections import Detections, Floats
from edgekit.detection.suppression import Indices, overlaps

SAME_IOU = 0.5
"""Boxes of one class that overlap by less are not the same object."""


@dataclass(frozen=True)
class Matches:
    """Pairs of rows, each row at most once."""

    expected: Indices
    found: Indices
    ious: Floats


def matched(expected: Detections, found: Detections, least_iou: float = SAME_IOU) -> Matches:
    """Greedy: each expected box, best score first, takes the free box of its class that covers it best."""
    free = np.ones(len(found), dtype=bool)
    ious = overlaps(expected.boxes, found.boxes)
    pairs: list[tuple[int, int]] = []
    for row in range(len(expected)):
        usable = free & (found.labels == expected.labels[row]) & (ious[row] >= least_iou)
        if usable.any():
            best = int(np.argmax(np.where(usable, ious[row], -1)))
            free[best] = False
            pairs.append((row, best))
    rows = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return Matches(rows[:, 0], rows[:, 1], ious[rows[:, 0], rows[:, 1]])
