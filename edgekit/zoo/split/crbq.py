"""Channel reduction with bottleneck quantisation, CR+BQ (Matsubara and Levorato, ICPR 2020).

In the place of a ResNet's layer1, which may carry a detector: its stem, conv1 to maxpool, stays on the device.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo.split.bottleneck import Bottleneck, conv, norm_relu, require_channels

MOST_CHANNELS = 24


def crbq(channels: int) -> Bottleneck:
    """Of ResNet-50, -101 and -152, whose layer1 gives 256 channels."""
    return _crbq(channels, 256)


def crbq_small(channels: int) -> Bottleneck:
    """Of ResNet-18 and -34, whose layer1 gives 64."""
    return _crbq(channels, 64)


def _crbq(channels: int, made: int) -> Bottleneck:
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(
        conv(64, 64, 2, 1, 1), nn.BatchNorm2d(64),
        conv(64, 256, 2, 1, 1), *norm_relu(256),
        conv(256, 64, 2, 1, 1), nn.BatchNorm2d(64),
        conv(64, channels, 2, 1, 1),
    )  # fmt: skip
    decoder = nn.Sequential(
        *norm_relu(channels), conv(channels, 64, 2), nn.BatchNorm2d(64),
        conv(64, 128, 2), *norm_relu(128),
        conv(128, made, 2), nn.BatchNorm2d(made),
        conv(made, made, 2), *norm_relu(made),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)
