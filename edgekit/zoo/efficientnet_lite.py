"""EfficientNet-Lite: EfficientNet (arXiv 1905.11946) without squeeze-and-excitation, with ReLU6, for phones.

Submodule names are those of the PyTorch port whose weights are published (efficientnet-lite-pytorch), which
keeps TensorFlow's padding and its BatchNorm epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from edgekit.zoo.inverted_residual import in_eights
from edgekit.zoo.same_conv import SameConv

EPS, MOMENTUM = 1e-3, 0.01
STEM, HEAD = 32, 1280
BLOCKS = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 2, 3),
    (5, 6, 112, 1, 3),
    (5, 6, 192, 2, 4),
    (3, 6, 320, 1, 1),
)
"""Rows of kernel, expansion, channels out, stride, repeats, before width and depth."""


@dataclass(frozen=True)
class EfficientNetLiteConfig:
    width: float
    """Multiplies channels, to multiples of 8, but those of the stem and of the last convolution."""
    depth: float
    """Multiplies repeats, but those of the first and of the last row."""
    classes: int
    dropout: float = 0.2


class EfficientNetLite(nn.Module):
    """Images N 3 H W, normalised, to logits N classes."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, STEM, 3, 2, tf_same=True)
        self._bn0 = nn.BatchNorm2d(STEM, EPS, MOMENTUM)
        self._blocks = nn.Sequential()
        channels = STEM
        for row, (kernel, expansion, published, stride, repeats) in enumerate(BLOCKS):
            made = in_eights(published * config.width)
            ends = row in (0, len(BLOCKS) - 1)
            for index in range(repeats if ends else math.ceil(repeats * config.depth)):
                first = index == 0
                block = MBConv(channels, made, kernel, stride if first else 1, expansion)
                self._blocks.append(block)
                channels = made
        self._conv_head = SameConv(channels, HEAD, 1, tf_same=True)
        self._bn1 = nn.BatchNorm2d(HEAD, EPS, MOMENTUM)
        self._dropout = nn.Dropout(config.dropout)
        self._fc = nn.Linear(HEAD, config.classes)
        self._act = nn.ReLU6()
        self._act_head = nn.ReLU6()
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = self._act(self._bn0(self._conv_stem(image)))
        x = self._act_head(self._bn1(self._conv_head(self._blocks(x))))
        return self._fc(self._dropout(x.mean((2, 3))))


class MBConv(nn.Module):
    """Widen, filter per channel, narrow; plus the input where the shapes agree."""

    def __init__(self, given: int, made: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = given * expansion
        self.widens = expansion > 1
        self.adds_input = stride == 1 and given == made
        if self.widens:
            self._expand_conv = SameConv(given, middle, 1, tf_same=True)
            self._bn0 = nn.BatchNorm2d(middle, EPS, MOMENTUM)
        self._depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle, tf_same=True)
        self._bn1 = nn.BatchNorm2d(middle, EPS, MOMENTUM)
        self._project_conv = SameConv(middle, made, 1, tf_same=True)
        self._bn2 = nn.BatchNorm2d(made, EPS, MOMENTUM)
        self._act = nn.ReLU6()

    def forward(self, given: Tensor) -> Tensor:
        x = self._act(self._bn0(self._expand_conv(given))) if self.widens else given
        x = self._act(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + given if self.adds_input else x


def _initialise(network: nn.Module) -> None:
    """Random weights keep the signal's size."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
