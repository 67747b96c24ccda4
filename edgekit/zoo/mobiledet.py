"""MobileDet (arXiv 2004.14525): detectors whose blocks were searched for one kind of hardware each.

Beside inverted bottlenecks there are fused ones, whose first convolution is dense, and Tucker
blocks, whose dense convolution stands between two 1×1 ones: both suit accelerators. The tables of
the four published networks stand in their recipes. Heads are in ssdlite.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.zoo.same_conv import SameConv
from edgekit.zoo.ssdlite import SSDLite

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu6": nn.ReLU6, "hard-swish": nn.Hardswish}
BLOCK_FIELDS = ("kind", "kernel", "expansion", "channels", "stride", "adds_input")
NORM_MOMENTUM = 0.01

Row = tuple[str, int, int | tuple[float, float], int, int, bool]


@dataclass(frozen=True)
class MobileDetConfig:
    stem: int
    """Channels of the first convolution, 3×3 with stride 2."""
    blocks: tuple[Row, ...]
    """Rows of kind, kernel, expansion, channels out, stride and whether the input is added.

    Kinds: "inverted" (expansion 0: no widening convolution), "fused", and "tucker", whose expansion
    is a pair: channels of the compressed input over those of the input, and channels of the dense
    convolution over those out.
    """
    classes: int
    activation: str
    """"relu6" or "hard-swish"."""
    squeeze: bool
    """Squeeze-and-excitation in every inverted block."""
    width: float = 1.0
    """Factor of all channel counts of the backbone."""
    norm_eps: float = 0.01
    """Of the backbone's norms: 0.01 in the published detectors, 0.001 in the TF2 backbones."""
    tf_same: bool = True
    """Padding as in TensorFlow; see SameConv."""


def mobiledet(config: MobileDetConfig) -> SSDLite:
    backbone = MobileDetBackbone(config)
    return SSDLite(backbone, backbone.channels[-2:], config.classes, tf_same=config.tf_same)


def in_eights(channels: float) -> int:
    """The nearest multiple of 8, at least 8; halves go up. It may lose more than a tenth."""
    return max(8, 8 * math.floor(channels / 8 + 0.5))


@dataclass(frozen=True)
class Style:
    """What all layers of one backbone share."""

    activation: type[nn.Module]
    squeeze: bool
    norm_eps: float
    tf_same: bool

    def conv(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        """Convolution and norm."""
        conv = SameConv(
            channels_in, channels_out, kernel, stride, groups=groups, tf_same=self.tf_same
        )
        _initialise(conv)
        return [conv, nn.BatchNorm2d(channels_out, self.norm_eps, NORM_MOMENTUM)]

    def active(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        """Convolution, norm and activation."""
        return [*self.conv(channels_in, channels_out, kernel, stride, groups), self.activation()]


def _initialise(conv: nn.Conv2d) -> None:
    """He's normal; depthwise by a normal cut at two deviations, as the published training has it."""
    if conv.groups == 1:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    else:
        std = math.sqrt(2 / conv.kernel_size[0] ** 2) / 0.8796
        nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)


class MobileDetBackbone(nn.Module):
    """Images N 3 H W, from -1 to 1, to features at every stride from 2 on: the last of each size."""

    def __init__(self, config: MobileDetConfig) -> None:
        super().__init__()
        activation = ACTIVATIONS.get(config.activation)
        if activation is None:
            known = " or ".join(ACTIVATIONS)
            raise ValueError(f"activation must be {known}, and is {config.activation!r}")
        style = Style(activation, config.squeeze, config.norm_eps, config.tf_same)
        channels = in_eights(config.stem * config.width)
        self.stem = nn.Sequential(*style.active(3, channels, 3, 2))
        self.blocks = nn.ModuleList()
        self.strides: list[int] = []
        self.channels: list[int] = []
        for row in config.blocks:
            if len(row) != len(BLOCK_FIELDS):
                raise ValueError(f"a block is {', '.join(BLOCK_FIELDS)}, and one is {list(row)}")
            block = Block(channels, row, config.width, style)
            if row[4] > 1:
                self.channels.append(channels)
            self.strides.append(row[4])
            self.blocks.append(block)
            channels = block.channels
        self.channels.append(channels)
        if self.strides.count(2) != 4 or set(self.strides) - {1, 2}:
            raise ValueError(
                "four of the blocks need stride 2 and the others 1: heads sit at 16 and 32"
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        pyramid = []
        for block, stride in zip(self.blocks, self.strides):
            if stride > 1:
                pyramid.append(x)
            x = block(x)
        return [*pyramid, x]


class Block(nn.Module):
    """One row of the table. Convolutions are registered in the order in which TensorFlow made them."""

    def __init__(self, channels_in: int, row: Row, width: float, style: Style) -> None:
        super().__init__()
        kind, kernel, expansion, channels, stride, self.adds_input = row
        self.channels = in_eights(channels * width)
        if self.adds_input and (stride > 1 or channels_in != self.channels):
            raise ValueError(f"a block cannot add its input to other shapes: {list(row)}")
        if kind == "tucker" and isinstance(expansion, tuple):
            compressed = in_eights(expansion[0] * channels_in)
            middle = in_eights(expansion[1] * self.channels)
            layers = [
                *style.active(channels_in, compressed, 1),
                *style.active(compressed, middle, kernel, stride),
            ]
        elif kind == "fused" and isinstance(expansion, int):
            middle = channels_in * expansion
            layers = style.active(channels_in, middle, kernel, stride)
        elif kind == "inverted" and isinstance(expansion, int):
            middle = channels_in * (expansion or 1)
            layers = [
                *(style.active(channels_in, middle, 1) if expansion else []),
                *style.active(middle, middle, kernel, stride, groups=middle),
                *([SqueezeExcite(middle, style.activation)] if style.squeeze else []),
            ]
        else:
            raise ValueError(f"a block is inverted, fused or tucker, and one is {list(row)}")
        self.layers = nn.Sequential(*layers, *style.conv(middle, self.channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds_input else self.layers(x)


class SqueezeExcite(nn.Module):
    """Each channel times a number in (0, 1) that is computed from all channels' means."""

    def __init__(self, channels: int, activation: type[nn.Module]) -> None:
        super().__init__()
        squeezed = in_eights(channels / 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.activation(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.expand(squeezed))
