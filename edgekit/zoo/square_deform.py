"""CoDeNet's deformable convolution: depthwise 3×3 with a dilation of its own at each pixel.

Tap (ky, kx) of {-1, 0, 1}² looks at p + s(p)·(ky, kx), bilinearly between pixels, at zeros outside of
the map. It is written with gathers of whole pixels, which every runtime has: no custom operator, and
no shape that depends on data.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOWEST, HIGHEST = -7, 8
"""Of the dilation: lines that a hardware buffer keeps. Below 0 the kernel is mirrored."""


Ends = list[tuple[Tensor, Tensor | None]]
"""Whole dilations next to that of each pixel, and their shares in the interpolation, if there is any."""
Places = list[tuple[Tensor, Tensor | None]]
"""The same as lines or columns of the map with a ring of zeros."""


class SquareDepthwise(nn.Module):
    """Maps N C H W and dilations N 1 H W to N C H W. With `whole` the dilations must be whole numbers."""

    def __init__(self, channels: int, *, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.weight = nn.Parameter(torch.empty(channels, 1, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, x: Tensor, dilation: Tensor) -> Tensor:
        return square_depthwise(x, dilation, self.weight, whole=self.whole)


def square_depthwise(x: Tensor, dilation: Tensor, weight: Tensor, *, whole: bool) -> Tensor:
    """See SquareDepthwise; weight is C 1 3 3."""
    n, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1)  # before the padding, which makes a small map much larger
    # One ring: all that lies further out is zero too, so that places are clamped to it.
    pixels = F.pad(rows, (0, 0, 1, 1, 1, 1)).reshape(-1, channels)
    below = torch.floor(dilation).reshape(-1)
    part = (dilation.reshape(-1) - below)[:, None]
    ends: Ends = [(below, None)] if whole else [(below, 1 - part), (below + 1, part)]
    image, y, across = _grid(n, height, width, x.device)
    line = width + 2
    starts = image * ((height + 2) * line)
    lines = {
        step: [(place * line + starts, share) for place, share in found]
        for step, found in _places(y, ends, height).items()
    }
    columns = _places(across, ends, width)

    taps = weight.reshape(channels, 9).t()
    seen = (
        _sampled(pixels, lines[tap // 3 - 1], columns[tap % 3 - 1]) * taps[tap]
        for tap in (0, 1, 2, 3, 5, 6, 7, 8)
    )
    # Each tap is written before the sum that it follows: of two operands onnxruntime computes the later one first, and
    # so the sum. The other way round it holds all taps until the end.
    total, ahead = rows.reshape(-1, channels) * taps[4], next(seen)
    for one in seen:
        total, ahead = total + ahead, one
    total = total + ahead
    return total.reshape(n, height, width, channels).permute(0, 3, 1, 2)


def _grid(n: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image, line and column of each pixel of N H W; lines and columns in floats, which Core ML can clamp."""
    axes = (torch.arange(size, device=device) for size in (n, height, width))
    image, y, x = (axis.reshape(-1) for axis in torch.meshgrid(*axes, indexing="ij"))
    return image, y.float(), x.float()


def _places(here: Tensor, ends: Ends, size: int) -> dict[int, Places]:
    """Along one axis for each step of a tap, with the ring's zeros at 0 and `size` + 1."""

    def ringed(at: Tensor) -> Tensor:
        return at.clamp(-1, size).to(torch.int64) + 1

    # In bfloat16, whose whole numbers end at 256, lines of a large map would be others.
    moved = {
        step: [(ringed(here + step * end.float()), share) for end, share in ends]
        for step in (-1, 1)
    }
    return {**moved, 0: [(ringed(here), None)]}


def _sampled(pixels: Tensor, lines: Places, columns: Places) -> Tensor:
    """What one tap sees: between two whole dilations on a line or a column, four pixels on a diagonal."""
    seen = []
    for line, high in lines:
        for column, wide in columns:
            found = torch.index_select(pixels, 0, line + column)
            shares = [share for share in (high, wide) if share is not None]
            seen.append(found * prod(shares[1:], start=shares[0]) if shares else found)
    total = seen[0]
    for other in seen[1:]:
        total = total + other
    return total


class Rounded(nn.Module):
    """The nearest whole number, with the gradient of the identity."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (torch.round(x) - x).detach() if self.training else torch.round(x)


class SquareDeformConv(nn.Module):
    """A dilation per pixel from a 1×1 convolution, the depthwise convolution, and a 1×1 one.

    With `whole_offsets` dilations are rounded, with the gradient of the identity in training: eight
    gathers instead of twenty-four, and what hardware without interpolation computes.
    """

    def __init__(self, channels_in: int, channels_out: int, *, whole_offsets: bool) -> None:
        super().__init__()
        self.conv_scale = nn.Conv2d(channels_in, 1, 1)
        nn.init.zeros_(self.conv_scale.weight)
        nn.init.constant_(self.conv_scale.get_parameter("bias"), 1.0)
        bound = nn.Hardtanh(float(LOWEST), float(HIGHEST))
        self.bound = nn.Sequential(bound, Rounded()) if whole_offsets else bound
        self.conv = SquareDepthwise(channels_in, whole=whole_offsets)
        self.conv_channel = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_channel(self.conv(x, self.bound(self.conv_scale(x))))
