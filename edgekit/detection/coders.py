"""Boxes to the numbers that heads are trained to give, and back. Boxes are x1 y1 x2 y2 in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

CENTRE_FACTOR = 10.0
SIZE_FACTOR = 5.0
"""SSD's codes are scaled so that both kinds vary by about 1."""

BINS = 16
"""LeYOLO gives the distance of a side as a distribution over 0 to 15 cells."""


def decode_anchors(codes: Tensor, anchors: Tensor) -> Tensor:
    """SSD codes N A 4 (y, x, height, width) of anchors A 4 (centre x, y, width, height) to boxes."""
    dy, dx, dh, dw = codes.unbind(-1)
    x, y, w, h = anchors.unbind(-1)
    x = x + dx / CENTRE_FACTOR * w
    y = y + dy / CENTRE_FACTOR * h
    half_w = torch.exp(dw / SIZE_FACTOR) * (w / 2)
    half_h = torch.exp(dh / SIZE_FACTOR) * (h / 2)
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


def encode_anchors(boxes: Tensor, anchors: Tensor, smallest: float = 1e-3) -> Tensor:
    """SSD codes of boxes A 4 for as many anchors. Sides count as at least `smallest` pixels, so that
    a box without area has finite codes."""
    x, y, w, h = anchors.unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    dx = ((x1 + x2) / 2 - x) / w * CENTRE_FACTOR
    dy = ((y1 + y2) / 2 - y) / h * CENTRE_FACTOR
    dw = torch.log((x2 - x1).clamp_min(smallest) / w) * SIZE_FACTOR
    dh = torch.log((y2 - y1).clamp_min(smallest) / h) * SIZE_FACTOR
    return torch.stack([dy, dx, dh, dw], dim=-1)


def decode_distances(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Left, top, right and bottom distances N A 4, in cells, from points A 2 to boxes N A 4.

    Points are in pixels, strides A 1 in pixels per cell.
    """
    left_top, right_bottom = (distances * strides).chunk(2, dim=-1)
    return torch.cat([points - left_top, points + right_bottom], dim=-1)


def encode_distances(boxes: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """The inverse for boxes ... A 4, within what the bins can say: 0 to just under BINS - 1."""
    left_top, right_bottom = boxes.chunk(2, dim=-1)
    distances = torch.cat([points - left_top, right_bottom - points], dim=-1) / strides
    return distances.clamp(0, BINS - 1.01)
