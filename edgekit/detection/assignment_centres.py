"""Heat maps with a bump at each object's centre: CenterNet (arXiv 1904.07850)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.detection.targets import Target

OVERLAP = 0.7
"""A box whose corners move by the bump's radius should still overlap so much."""


@dataclass(frozen=True)
class CentreMaps:
    """Of one image; in cells of the map."""

    heat: Tensor
    """Classes h w: 1 at centres, falling off around them, 0 elsewhere."""
    cells: Tensor
    """K 2: row and column of each object's centre."""
    sizes: Tensor
    """K 2: width and height."""
    offsets: Tensor
    """K 2: of the centre from its cell's corner, x first."""


def centre_maps(target: Target, classes: int, rows: int, columns: int, stride: int) -> CentreMaps:
    """Objects whose boxes, in pixels, have no area on the map must have been left out before."""
    boxes = target.boxes / stride
    sizes = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    limit = middle.new_tensor([columns - 1, rows - 1])
    corner = torch.minimum(middle.floor(), limit)
    heat = boxes.new_zeros(classes, rows, columns)
    for (x, y), (width, height), kind in zip(
        corner.long().tolist(), sizes.tolist(), target.classes.tolist()
    ):
        radius = int(bump_radius(math.ceil(height), math.ceil(width)))
        _draw(heat[kind], x, y, radius)
    return CentreMaps(heat, corner.flip(1).long(), sizes, middle - corner)


def bump_radius(height: float, width: float) -> float:
    """CenterNet's rule: the least of three roots, which it takes without dividing by 2a."""
    total, product = height + width, height * width
    apart = _root(1, total, product * (1 - OVERLAP) / (1 + OVERLAP))
    within = _root(4, 2 * total, (1 - OVERLAP) * product)
    around = _root(4 * OVERLAP, -2 * OVERLAP * total, (OVERLAP - 1) * product)
    return max(0.0, min(apart, within, around))


def _root(a: float, b: float, c: float) -> float:
    return (b + math.sqrt(b * b - 4 * a * c)) / 2


def _draw(heat: Tensor, x: int, y: int, radius: int) -> None:
    """The bump on `heat`, h w, in place; where two meet the higher counts."""
    sigma = (2 * radius + 1) / 6
    rows, columns = heat.shape
    top, bottom = max(0, y - radius), min(rows, y + radius + 1)
    left, right = max(0, x - radius), min(columns, x + radius + 1)
    down = torch.arange(top, bottom, device=heat.device, dtype=heat.dtype)[:, None] - y
    along = torch.arange(left, right, device=heat.device, dtype=heat.dtype) - x
    bump = torch.exp(-(down**2 + along**2) / (2 * sigma**2))
    part = heat[top:bottom, left:right]
    part.copy_(torch.maximum(part, bump))
