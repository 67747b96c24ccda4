"""Class-aware greedy suppression in NumPy: the boxes that ONNX's NonMaxSuppression keeps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.detection.detections import Detections, Floats, Labels

Indices = npt.NDArray[np.intp]


def suppressed(boxes: Floats, scores: Floats, score: float, iou: float, limit: int) -> Detections:
    """The best `limit` of boxes A 4 with scores A C that no better one of their class covers."""
    rows, labels = kept_candidates(boxes, scores, score, iou, limit)
    return Detections(boxes[rows], scores[rows, labels], labels)


def kept_candidates(
    boxes: Floats, scores: Floats, score: float, iou: float, limit: int
) -> tuple[Indices, Labels]:
    """Rows and columns of the scores that `suppressed` keeps, best first.

    A box may be kept under several classes. Kept are scores above `score`; dropped are overlaps above
    `iou`. Of equal scores the earlier box is the better, then the earlier class. Candidates that are
    not finite are left out.
    """
    usable = np.isfinite(boxes).all(-1)
    rows, labels = [], []
    for label in range(scores.shape[1]):
        values = scores[:, label]
        asked = np.flatnonzero((values > np.float32(score)) & usable)
        if asked.size:
            queue = asked[np.argsort(-values[asked], kind="stable")]
            kept = _greedy(boxes, queue, iou, limit)
            rows.append(kept)
            labels.append(np.full(len(kept), label, np.int64))
    if not rows:
        return np.zeros(0, np.intp), np.zeros(0, np.int64)
    row, column = np.concatenate(rows), np.concatenate(labels)
    best = np.argsort(-scores[row, column], kind="stable")[:limit]
    return row[best], column[best]


def _greedy(boxes: Floats, queue: Indices, iou: float, limit: int) -> Indices:
    """Of `queue`, best first."""
    kept: list[np.intp] = []
    while queue.size and len(kept) < limit:
        first, queue = queue[0], queue[1:]
        kept.append(first)
        if iou < 1:
            queue = queue[overlaps(boxes[first : first + 1], boxes[queue])[0] <= np.float32(iou)]
    return np.array(kept, dtype=np.intp)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union, N M. Corners may come in any order; a box without area has none."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    others_low = np.minimum(others[:, :2], others[:, 2:])
    others_high = np.maximum(others[:, :2], others[:, 2:])
    shared = np.minimum(high[:, None], others_high) - np.maximum(low[:, None], others_low)
    intersection = np.prod(np.maximum(shared, 0), axis=-1)
    area, areas = np.prod(high - low, axis=-1), np.prod(others_high - others_low, axis=-1)
    union = area[:, None] + areas - intersection
    countable = (intersection > 0) & (area[:, None] > 0) & (areas > 0)
    result: Floats = np.zeros_like(intersection)
    np.divide(intersection, union, out=result, where=countable)
    return result
