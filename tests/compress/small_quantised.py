"""A small network with what quantisation meets: norms, ReLU6, padding on two sides, a sum, a join, SiLU, a shuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.compress.quantise_options import QuantiseOptions
from edgekit.model import Model, model_of_module


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.depthwise = nn.Conv2d(8, 8, 3, 2, groups=8)
        self.narrow = nn.Conv2d(8, 8, 1)
        self.side = nn.Conv2d(8, 8, 1)
        self.wide = nn.Conv2d(16, 32, 3, 1, 1)
        self.end = nn.Conv2d(8, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.depthwise(F.pad(x, (0, 1, 0, 1))))
        x = x + self.narrow(x)
        x = F.silu(self.side(x))
        x = F.pixel_shuffle(self.wide(torch.cat([x, F.max_pool2d(x, 3, 1, 1)], 1)), 2)
        return self.end(x)


ALL = QuantiseOptions(least_share=0, least_channels=1)
"""Small networks have no layer to spare."""


def small(size: int = 32) -> Model:
    torch.manual_seed(0)
    module = Small()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = torch.randn(8) * 0.2
            norm.running_var = torch.rand(8) + 0.5
    return model_of_module(module, torch.randn(1, 3, size, size), "small")


def inputs(count: int, size: int = 32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, size, size, generator=generator) for _ in range(count)]
