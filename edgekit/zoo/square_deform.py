"""CoDeNet's deformable convolution: depthwise 3×3 with a dilation of its own at each pixel.

Tap (ky, kx) of {-1, 0, 1}² looks at p + s(p)·(ky, kx), bilinearly between pixels, at zeros outside of
the map. It is written with gathers of whole pixels, which every runtime has: no custom operator, and
no shape that depends on data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOWEST, HIGHEST = -7, 8
"""Of the dilation: lines that a hardware buffer keeps. Below 0 the kernel is mirrored."""


End = tuple[Tensor, Tensor | None]
"""A whole dilation per pixel and its share in the interpolation, if there is any."""


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
    """See SquareDepthwise; weight is C 1 3 3. Dilations are within LOWEST and HIGHEST."""
    n, channels, height, width = x.shape
    reach = HIGHEST + (0 if whole else 1)
    line = width + 2 * reach
    rows = x.permute(0, 2, 3, 1)  # before the padding, which makes a map of 8×8 ten times as large
    pixels = F.pad(rows, (0, 0, *(reach,) * 4)).reshape(-1, channels)
    here = _indices(n, height, width, reach, x.device)
    below = torch.floor(dilation).reshape(-1)
    steps = below.to(torch.int64)
    part = (dilation.reshape(-1) - below)[:, None]
    ends: list[End] = [(steps, 1 - part), (steps + 1, part)]
    if whole:
        ends = [(steps, None)]

    taps = weight.reshape(channels, 9).t()
    total = rows.reshape(-1, channels) * taps[4]
    for tap in (0, 1, 2, 3, 5, 6, 7, 8):
        down, right = tap // 3 - 1, tap % 3 - 1
        total = total + _sampled(pixels, here, ends, down * line, right) * taps[tap]
    return total.reshape(n, height, width, channels).permute(0, 3, 1, 2)


def _indices(n: int, height: int, width: int, reach: int, device: torch.device) -> Tensor:
    """Where each pixel of N H W stands among the rows of the padded map."""
    rows, columns = height + 2 * reach, width + 2 * reach
    image = torch.arange(n, device=device)[:, None, None] * (rows * columns)
    y = (torch.arange(height, device=device)[:, None] + reach) * columns
    x = torch.arange(width, device=device) + reach
    return (image + y + x).reshape(-1)


def _sampled(pixels: Tensor, here: Tensor, ends: list[End], down: int, right: int) -> Tensor:
    """What one tap sees: between two whole dilations on a row or a column, four pixels on a diagonal."""
    if not (down and right):
        jumps = [(steps * (down + right), share) for steps, share in ends]
    else:
        jumps = [
            (a * down + b * right, None if p is None or q is None else p * q)
            for a, p in ends
            for b, q in ends
        ]
    seen = [_shared(torch.index_select(pixels, 0, here + jump), share) for jump, share in jumps]
    total = seen[0]
    for other in seen[1:]:
        total = total + other
    return total


def _shared(pixels: Tensor, share: Tensor | None) -> Tensor:
    return pixels if share is None else pixels * share


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
