"""BottleFit's bottlenecks (arXiv 2201.02693), and those of head network distillation before it.

Encoder and decoder replace a network's early layers. Except in version 1 the cut is right behind a linear
convolution, whose norm and ReLU belong to the server. Submodule numbers are the published ones.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo.split.bottleneck import (
    Bottleneck,
    conv,
    conv_transpose,
    norm_relu,
    require_channels,
)

MOST_CHANNELS = 24


def resnet(channels: int) -> Bottleneck:
    """ "ver2", the main one: of ResNet-50, -101 and -152, in the place of conv1 to layer2."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(*_stem(padding=True), conv(64, channels, 2, 2, 1))
    decoder = nn.Sequential(
        *norm_relu(channels), conv(channels, 512, 2, 1, 1),
        *norm_relu(512), conv(512, 512, 2, 1, 1),
        *_down_to_512(),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def resnet_pooled(channels: int) -> Bottleneck:
    """ "ver1": cut behind the max-pool, so that nothing negative is sent."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(conv(3, channels, 7, 2, 3), *norm_relu(channels), nn.MaxPool2d(3, 2, 1))
    decoder = nn.Sequential(
        *norm_relu(channels), conv(channels, 64, 2, 2, 1),
        *norm_relu(64), conv(64, 512, 2, 1, 1),
        *norm_relu(512), conv(512, 512, 2, 1, 1),
        *_down_to_512(),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def resnet_deep(channels: int) -> Bottleneck:
    """ "ver3": two more halvings on the device, one undone on the server."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(
        *_stem(padding=True), conv(64, 512, 2, 2, 1), *norm_relu(512), conv(512, channels, 2, 2, 1)
    )
    decoder = nn.Sequential(
        *norm_relu(channels), conv_transpose(channels, 512, 2, 2),
        *norm_relu(512), conv(512, 512, 2, 1, 1),
        *_down_to_512(),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def densenet(channels: int) -> Bottleneck:
    """Of DenseNet-169 and -201, in the place of all up to transition2."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(*_stem(padding=True), conv(64, channels, 2, 2, 1))
    decoder = nn.Sequential(
        *norm_relu(channels), conv(channels, 512, 2, 1, 1),
        *norm_relu(512), conv(512, 512, 2, 1, 1),
        *norm_relu(512), conv(512, 256, 2),
        *norm_relu(256), conv(256, 256, 2),
        *norm_relu(256), conv(256, 256, 2),
        nn.AvgPool2d(2, 2),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def inception_v3(channels: int) -> Bottleneck:
    """In the place of all up to the second max-pool, for 299 pixels."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(*_stem(padding=False), conv(64, channels, 2, 2, 1))
    decoder = nn.Sequential(
        *norm_relu(channels), conv(channels, 256, 2, 1, 1),
        *norm_relu(256), conv(256, 256, 2),
        *norm_relu(256), conv(256, 192, 2),
        nn.AvgPool2d(2, 1),
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def mobilenet_v2(channels: int) -> Bottleneck:
    """Version 1b of head network distillation, in the place of all up to 32 channels of a stride of 8."""
    require_channels(channels, MOST_CHANNELS)
    encoder = nn.Sequential(*_stem(padding=True), conv(64, channels, 3, 2, 1))
    decoder = nn.Sequential(
        *norm_relu(channels), conv_transpose(channels, 512, 4, 2),
        *norm_relu(512), conv(512, 256, 2),
        *norm_relu(256), conv(256, 32, 2),
        *norm_relu(32), conv(32, 32, 2),
        nn.AvgPool2d(2, 2, 1),  # counts the zeros around, as published
    )  # fmt: skip
    return Bottleneck(encoder, decoder, channels)


def _stem(*, padding: bool) -> tuple[nn.Module, ...]:
    """Two norms with ReLU, one before and one behind the max-pool, as published."""
    pooled = nn.MaxPool2d(3, 2, 1 if padding else 0)
    return conv(3, 64, 7, 2, 3 if padding else 0), *norm_relu(64), pooled, *norm_relu(64)


def _down_to_512() -> tuple[nn.Module, ...]:
    """Each kernel of 2 without padding takes a row and a column away."""
    return (
        *norm_relu(512), conv(512, 512, 2),
        *norm_relu(512), conv(512, 512, 2),
        nn.AvgPool2d(2, 1),
    )  # fmt: skip
