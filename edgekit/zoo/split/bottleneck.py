"""What takes the place of a network's layers around the cut: an encoder and a decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Bottleneck(NamedTuple):
    encoder: nn.Sequential
    """To the latent, N `channels` h w."""
    decoder: nn.Sequential
    """From the latent to what the network's own layer would have given."""
    channels: int


def conv(given: int, made: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """Without bias, as in all published structures; Kaiming-normal over outputs, as HND begins."""
    layer = nn.Conv2d(given, made, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def conv_transpose(given: int, made: int, kernel: int, stride: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(given, made, kernel, stride, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()


def require_channels(channels: int, most: int) -> None:
    """Raises ValueError."""
    if not 1 <= channels <= most:
        raise ValueError(f"a bottleneck here has 1 to {most} channels, not {channels}")
