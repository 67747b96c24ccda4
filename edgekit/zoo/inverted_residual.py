"""Image classifiers built of inverted residual blocks: MobileNetV2 and networks searched in its space.

A block widens its input with a 1×1 convolution, filters each channel with a k×k depthwise one and
narrows with another 1×1 convolution without activation (MobileNetV2, arXiv 1801.04381). Networks
differ in a table: MobileNetV2 of any width, and MnasNet (arXiv 1807.11626), ProxylessNAS
(1812.00332), FBNet (1812.03443) and MCUNet (2007.10319), whose tables stand in their recipes.
Submodule names are those of torchvision's MobileNetV2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


@dataclass(frozen=True)
class InvertedResidualConfig:
    stem: int
    """Channels of the first convolution, 3×3 with stride 2."""
    blocks: tuple[tuple[int, int, int, int, int], ...]
    """Rows of kernel, expansion, channels out, stride, repeats.

    Expansion is the width between the 1×1 convolutions over the width of the input; 0 leaves the
    widening convolution away. Only the first repeat has the stride.
    """
    head: int
    """Channels of the 1×1 convolution before pooling; 0: none."""
    classes: int
    activation: str
    """"relu" or "relu6"."""


def mobilenet_v2(width: float, classes: int) -> InvertedResidualConfig:
    """The published table with every channel count times `width`, to a multiple of 8.

    The last convolution is never narrower than 1280, as in torchvision.
    """
    published = (
        (3, 0, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (3, 6, 32, 2, 3),
        (3, 6, 64, 2, 4),
        (3, 6, 96, 1, 3),
        (3, 6, 160, 2, 3),
        (3, 6, 320, 1, 1),
    )
    return InvertedResidualConfig(
        stem=in_eights(32 * width),
        blocks=tuple((k, e, in_eights(c * width), s, n) for k, e, c, s, n in published),
        head=in_eights(1280 * max(1.0, width)),
        classes=classes,
        activation="relu6",
    )


def in_eights(channels: float) -> int:
    """The nearest multiple of 8, at least 8, that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class InvertedResidualNetwork(nn.Module):
    """Images N 3 H W, normalised, to logits N classes."""

    def __init__(self, config: InvertedResidualConfig) -> None:
        super().__init__()
        activation = ACTIVATIONS.get(config.activation)
        if activation is None:
            raise ValueError(f"activation must be relu or relu6, and is {config.activation!r}")
        layers: list[nn.Module] = [ConvNormAct(3, config.stem, 3, 2, 1, activation)]
        channels = config.stem
        for kernel, expansion, channels_out, stride in _blocks(config):
            layers.append(
                InvertedResidual(channels, channels_out, kernel, stride, expansion, activation)
            )
            channels = channels_out
        if config.head:
            layers.append(ConvNormAct(channels, config.head, 1, 1, 1, activation))
            channels = config.head
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, config.classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


def _blocks(config: InvertedResidualConfig) -> Iterator[tuple[int, int, int, int]]:
    """Kernel, expansion, channels out and stride of every single block."""
    for kernel, expansion, channels, stride, repeats in config.blocks:
        for index in range(repeats):
            yield kernel, expansion, channels, stride if index == 0 else 1


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, activation; zeros surround the picture."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int,
        groups: int,
        activation: type[nn.Module],
    ) -> None:
        super().__init__(
            _conv(channels_in, channels_out, kernel, stride, groups, gain=math.sqrt(2)),
            nn.BatchNorm2d(channels_out),
            activation(),
        )


class InvertedResidual(nn.Module):
    """Widen, filter per channel, narrow; plus the input where the shapes agree."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        self.adds_input = stride == 1 and channels_in == channels_out
        middle = channels_in * (expansion or 1)
        widen = [ConvNormAct(channels_in, middle, 1, 1, 1, activation)] if expansion else []
        self.conv = nn.Sequential(
            *widen,
            ConvNormAct(middle, middle, kernel, stride, middle, activation),
            _conv(middle, channels_out, 1, 1, 1, gain=1.0),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds_input else self.conv(x)


def _conv(
    channels_in: int, channels_out: int, kernel: int, stride: int, groups: int, *, gain: float
) -> nn.Conv2d:
    """Random weights keep the signal's size, so that even an untrained network computes something."""
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    nn.init.normal_(conv.weight, std=gain / math.sqrt(channels_in // groups * kernel**2))
    return conv
