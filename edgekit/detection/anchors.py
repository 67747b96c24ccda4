"""Where candidates sit: anchor boxes of SSD, and the points and cells of detectors without anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SSD_SCALES = (0.20, 0.35, 0.50, 0.65, 0.80, 0.95)
"""Anchor height and width per level over the shorter side of the picture; 1.0 would follow."""
SSD_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
FIRST_LEVEL = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scale and ratio of width to height of the level with the finest cells, which has fewer."""


SSD_STRIDES = (16, 32, 64, 128, 256, 512)

POINT_STRIDES = (8, 16, 32)
"""Of LeYOLO's levels."""
CENTRE_STRIDE = 4
"""Of CenterNet's map."""


def ssd_cells(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of each level for a picture of this size."""
    return [(-(-height // stride), -(-width // stride)) for stride in SSD_STRIDES]


def ssd_shapes(level: int) -> list[tuple[float, float]]:
    """Width and height of a level's anchors over the picture's shorter side, in published order."""
    if level == 0:
        pairs = list(FIRST_LEVEL)
    else:
        scale, following = (*SSD_SCALES, 1.0)[level : level + 2]
        pairs = [(scale, ratio) for ratio in SSD_RATIOS]
        pairs.append((math.sqrt(scale * following), 1.0))
    return [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in pairs]


def ssd_anchors(cells: Sequence[tuple[int, int]], height: int, width: int, like: Tensor) -> Tensor:
    """A 4 as centre x, centre y, width and height in pixels, by level, row, column and shape.

    `cells` are the rows and columns of each level; type and device are those of `like`.
    """
    shorter = min(height, width)
    levels = []
    for level, (rows, columns) in enumerate(cells):
        points = centres(rows, columns, like) * like.new_tensor([width / columns, height / rows])
        shapes = like.new_tensor(ssd_shapes(level)) * shorter
        count = len(shapes)
        levels.append(
            torch.cat(
                [
                    points[:, None].expand(-1, count, -1),
                    shapes[None].expand(rows * columns, -1, -1),
                ],
                dim=2,
            ).flatten(0, 1)
        )
    return torch.cat(levels)


def centres(rows: int, columns: int, like: Tensor) -> Tensor:
    """Centres x, y of a grid's cells, (rows · columns) 2, in cells: (0.5, 0.5) is the first."""
    x = torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(
        [x[None].expand(rows, -1).flatten(), y[:, None].expand(-1, columns).flatten()], dim=1
    )


def points_of_levels(
    cells: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Points A 2 in pixels and their strides A 1, by level, row and column."""
    points = [
        centres(rows, columns, like) * stride for (rows, columns), stride in zip(cells, strides)
    ]
    sizes = [like.new_full((len(level), 1), stride) for level, stride in zip(points, strides)]
    return torch.cat(points), torch.cat(sizes)
