"""A plain U-Net for restoration (after arXiv 1505.04597), without normalisation.

Every level is two 3×3 convolutions with ReLU. Going down, 2×2 max pooling; going up, nearest
enlargement and the level's skip concatenated. Every operator sees a bounded neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class UNetConfig:
    widths: tuple[int, ...]
    """Channels per level, from full resolution down; each level halves height and width."""


class UNet(nn.Module):
    """Pictures N 3 H W in [0, 1] to pictures of the same shape, not clamped."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.down = nn.ModuleList(_level(a, b) for a, b in zip((3, *widths), widths))
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(_level(above + below, above) for above, below in reversed(pairs))
        self.out = _conv(widths[0], 3)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.down[0](picture)
        skips = []
        for level in list(self.down)[1:]:
            skips.append(x)
            x = level(F.max_pool2d(x, 2))
        for level in self.up:
            enlarged = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = level(torch.cat([enlarged, skips.pop()], dim=1))
        return self.out(x)


def _level(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(channels_in, channels_out),
        nn.ReLU(),
        _conv(channels_out, channels_out),
        nn.ReLU(),
    )


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Random weights keep the signal's size through ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv
