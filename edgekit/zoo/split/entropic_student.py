"""The bottleneck of the Entropic Student (arXiv 2108.11898), for a factorised prior; GDN between convolutions."""

from __future__ import annotations

from torch import nn

from edgekit.zoo.split.bottleneck import Bottleneck, conv, require_channels
from edgekit.zoo.split.gdn import GDN1


def entropic_student(channels: int = 24) -> Bottleneck:
    """In the place of a ResNet's conv1 to layer1: 256 channels of a stride of 4."""
    require_channels(channels, 512)
    return _between((4 * channels, 2 * channels, channels), (512, 256, 256))


def entropic_student_regnet(channels: int = 64) -> Bottleneck:
    """Of RegNetY-6.4GF, whose first block group gives 144 channels."""
    require_channels(channels, 512)
    return _between((64, 64, channels), (288, 144, 144))


def _between(encoder: tuple[int, int, int], decoder: tuple[int, int, int]) -> Bottleneck:
    wide, middle, channels = encoder
    first, second, made = decoder
    return Bottleneck(
        nn.Sequential(
            conv(3, wide, 5, 2, 2), GDN1(wide),
            conv(wide, middle, 5, 2, 2), GDN1(middle),
            conv(middle, channels, 2),
        ),
        nn.Sequential(
            conv(channels, first, 2, 1, 1), GDN1(first, inverse=True),
            conv(first, second, 2), GDN1(second, inverse=True),
            conv(second, made, 2, 1, 1),
        ),
        channels,
    )  # fmt: skip
