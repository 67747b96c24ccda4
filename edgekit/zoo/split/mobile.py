"""Our own bottleneck for phones: a depthwise-separable encoder of stride 8 with ReLU6.

38 MMAC at 224 pixels, where the published small encoder (Entropic Student) takes 588; no division, no
activation but ReLU6, so that it goes to 8 bits. The decoder fits whatever layer it stands in for.
"""

from __future__ import annotations

import math

from torch import nn

from edgekit.zoo.split.bottleneck import Bottleneck, require_channels

STRIDE = 8
MOST_CHANNELS = 64
DECODER_WIDTH = 128


def mobile_encoder(channels: int, colours: int = 3) -> nn.Sequential:
    """Image N `colours` H W to N `channels` H/8 W/8, linear at its end."""
    require_channels(channels, MOST_CHANNELS)
    return nn.Sequential(
        *_conv_norm(colours, 16, 3, stride=2), nn.ReLU6(),
        *_separable(16, 24),
        *_separable(24, 48, stride=2),
        *_separable(48, 48),
        *_separable(48, 96, stride=2),
        *_separable(96, 96),
        nn.Conv2d(96, channels, 1),
    )  # fmt: skip


def mobile(
    channels: int, made: int, stride: int, *, colours: int = 3, width: int = DECODER_WIDTH
) -> Bottleneck:
    """With a decoder to features of `made` channels at 1/`stride` of the image's height and width.

    Raises ValueError for a stride that is no power of two.
    """
    octaves = round(math.log2(stride / STRIDE))
    if STRIDE * 2**octaves != stride:
        raise ValueError(f"the layer's stride is {stride}, and the decoder takes powers of two")
    return Bottleneck(
        mobile_encoder(channels, colours), _decoder(channels, made, octaves, width), channels
    )


def _decoder(channels: int, made: int, octaves: int, width: int) -> nn.Sequential:
    layers = [*_conv_norm(channels, width, 3), nn.ReLU()]
    for _ in range(octaves):
        layers += [*_conv_norm(width, width, 3, stride=2), nn.ReLU()]
    for _ in range(-octaves):
        layers += [nn.Upsample(scale_factor=2, mode="nearest")]
        layers += [*_conv_norm(width, width, 3), nn.ReLU()]
    layers += [*_conv_norm(width, width, 3), nn.ReLU(), nn.Conv2d(width, made, 3, 1, 1)]
    return nn.Sequential(*layers)


def _separable(given: int, made: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        *_conv_norm(given, given, 3, stride=stride, groups=given), nn.ReLU6(),
        *_conv_norm(given, made, 1), nn.ReLU6(),
    )  # fmt: skip


def _conv_norm(
    given: int, made: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    layer = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return layer, nn.BatchNorm2d(made)
