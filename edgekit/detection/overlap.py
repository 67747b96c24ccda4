"""How much boxes (x1 y1 x2 y2) overlap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-7


def area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, in [0, 1], of ... 4 and ... 4, which broadcast."""
    high_corner = torch.minimum(a[..., 2:], b[..., 2:])
    low_corner = torch.maximum(a[..., :2], b[..., :2])
    shared = (high_corner - low_corner).clamp_min(0).prod(dim=-1)
    return shared / (area(a) + area(b) - shared + TINY)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the distance of centres and the difference of aspects (CIoU, arXiv 1911.08287).

    The gradient of the trade-off factor is left out, as in the paper.
    """
    plain = iou(a, b)
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    diagonal = (high - low).square().sum(dim=-1) + TINY
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = centres.square().sum(dim=-1) / diagonal
    aspect = 4 / math.pi**2 * (_angle(a) - _angle(b)).square()
    with torch.no_grad():
        factor = aspect / (1 - plain + aspect + TINY)
    return plain - distance - factor * aspect


def _angle(boxes: Tensor) -> Tensor:
    """Of the diagonal, from upright."""
    return torch.atan((boxes[..., 2] - boxes[..., 0]) / (boxes[..., 3] - boxes[..., 1] + TINY))
