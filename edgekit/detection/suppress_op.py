"""Suppression as one operator of a graph, `edgekit::suppress`, which each backend writes its own way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekit.detection.detections import Detections, Floats, Labels
from edgekit.detection.suppression import suppressed

SCHEMA = (
    "(Tensor boxes, Tensor scores, float score, float iou, int limit, bool best_class_only)"
    " -> (Tensor, Tensor, Tensor)"
)


def _suppress(
    boxes: Tensor, scores: Tensor, score: float, iou: float, limit: int, best_class_only: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners 1 A 4 and scores 1 A C to 1 L 4, 1 L and labels 1 L, best first.

    Unused rows are 0 and have the label -1. With `best_class_only` a box stands for the class that it
    scores best at and no other.
    """
    candidates, columns = boxes[0].float().numpy(), scores[0].float().numpy()
    if best_class_only:
        columns = np.where(columns.argmax(-1)[:, None] == np.arange(columns.shape[1]), columns, 0)
    found = suppressed(candidates, columns, score, iou, limit)
    rows, best, labels = (torch.from_numpy(value) for value in padded(found, limit))
    return rows, best, labels


def padded(found: Detections, limit: int) -> tuple[Floats, Floats, Labels]:
    boxes, scores = np.zeros((1, limit, 4), np.float32), np.zeros((1, limit), np.float32)
    labels = np.full((1, limit), -1, np.int64)
    boxes[0, : len(found)], scores[0, : len(found)] = found.boxes, found.scores
    labels[0, : len(found)] = found.labels
    return boxes, scores, labels


def _shapes(
    boxes: Tensor, _scores: Tensor, _score: float, _iou: float, limit: int, _best_class_only: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        boxes.new_empty((1, limit, 4), dtype=torch.float32),
        boxes.new_empty((1, limit), dtype=torch.float32),
        boxes.new_empty((1, limit), dtype=torch.int64),
    )


suppress = torch.library.custom_op("edgekit::suppress", _suppress, mutates_args=(), schema=SCHEMA)
suppress.register_fake(_shapes)
OVERLOAD = torch.ops.edgekit.suppress.default
"""What the operator is in a graph."""
