"""TAEF2: the image autoencoder of the FLUX.2 latent that teaches `turbo-vaed-mini`.

Layer list from the state dicts of madebyollin/taesd (MIT). Index N below is the index in the
state dict's keys. Weights are loaded from the user's files and never shipped.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.checkpoint import load_weights

LATENT_CHANNELS = 32
WIDTH = 64


class Block(nn.Module):
    """relu(x + three 3x3 convs of x)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class PooledBlock(Block):
    """A `Block` behind a branch whose GroupNorm sees the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Sequential(
            nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
            nn.GroupNorm(4, 4 * WIDTH),
            nn.ReLU(),
            nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.pool(x))


class ClampLatent(nn.Module):
    """3 tanh(z / 3): keeps outliers of a sampled latent within what training has seen."""

    def forward(self, latent: Tensor) -> Tensor:
        return 3 * torch.tanh(latent / 3)


def _conv(
    channels_in: int = WIDTH, channels_out: int = WIDTH, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=bias)


def _down() -> nn.Module:
    return _conv(stride=2, bias=False)


def _up() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), _conv(bias=False)]


def encoder() -> nn.Sequential:
    """Image N 3 H W in [0, 1] to latent N 32 H/8 W/8."""
    return nn.Sequential(
        _conv(channels_in=3), Block(),
        _down(), Block(), Block(), Block(),
        _down(), Block(), Block(), Block(),
        _down(), PooledBlock(), PooledBlock(), PooledBlock(),
        _conv(channels_out=LATENT_CHANNELS),
    )  # fmt: skip


def decoder() -> nn.Sequential:
    """Latent N 32 h w to image N 3 8h 8w, nominally in [0, 1], not clamped."""
    return nn.Sequential(
        ClampLatent(), _conv(channels_in=LATENT_CHANNELS), nn.ReLU(),
        PooledBlock(), PooledBlock(), PooledBlock(), *_up(),
        Block(), Block(), Block(), *_up(),
        Block(), Block(), Block(), *_up(),
        Block(), _conv(channels_out=3),
    )  # fmt: skip


def load(network: nn.Sequential, weights: Path) -> nn.Sequential:
    """Load one of the two upstream files (float16 tensors) into `network`, frozen, float32.

    Raises UsageError for a file that is damaged, or the other one.
    """
    load_weights(network, weights)
    return network.eval().requires_grad_(False)
