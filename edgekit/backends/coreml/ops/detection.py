"""Non-maximum suppression."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op


def corners(boxes: Tensor) -> Tensor:
    """Centre x, y, width, height to left, top, right, bottom."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one corner box with each of the others; 0 / 0 is no overlap."""
    shared = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(
        min=0
    )
    intersection = shared.prod(-1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(-1)
    return torch.nan_to_num(intersection / (area + areas - intersection))


def survivors(
    boxes: Tensor, scores: Tensor, iou: float, least_score: float | None, count: int, by_class: bool
) -> Tensor:
    """Indices of at most `count` boxes in descending score; the best box if none passes."""
    best, label = scores.max(dim=-1)
    order = torch.sort(best, descending=True, stable=True).indices
    queue = order if least_score is None else order[best[order] > least_score]
    box = corners(boxes)
    kept: list[Tensor] = []
    while len(queue) and len(kept) < count:
        first, queue = queue[0], queue[1:]
        kept.append(first)
        suppressed = overlaps(box[first], box[queue]) > iou
        if by_class:
            suppressed &= label[queue] == label[first]
        queue = queue[~suppressed]
    return torch.stack(kept) if kept else order[:1]


@exact_op
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> tuple[Tensor, ...]:
    """Boxes are centre x, y, width, height; unused rows are 0 and their index -1.

    Up to iOS 16 (recognised by its score threshold) boxes are the middle axis and a fourth output
    counts them; from iOS 17 they are the last axis.
    """
    last = score_threshold is None
    if last:
        boxes, scores = boxes.mT, scores.mT
    n, _, classes = scores.shape
    out_boxes, out_scores = torch.zeros(n, max_boxes, 4), torch.zeros(n, max_boxes, classes)
    out_indices = torch.full((n, max_boxes), -1)
    counts = torch.zeros(n, dtype=torch.int32)
    for i in range(n):
        kept = survivors(
            boxes[i], scores[i], iou_threshold, score_threshold, max_boxes, per_class_suppression
        )
        counts[i] = len(kept)
        out_boxes[i, : len(kept)] = boxes[i, kept]
        out_scores[i, : len(kept)] = scores[i, kept]
        out_indices[i, : len(kept)] = kept
    if last:
        return out_boxes.mT, out_scores.mT, out_indices
    return out_boxes, out_scores, out_indices, counts
