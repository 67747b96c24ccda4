"""Turbo-VAED-mini: a video decoder of the Turbo-VAED family for the 8x, 32-channel FLUX.2 latent.

The latent of that image autoencoder has no temporal compression, so T latents give T frames.
Depthwise-separable 5×5×5 convolutions work across time where they are cheap, at latent
resolution; above it every layer is 2-D with frames in the batch, and upsampling is convolution
and pixel shuffle, as in Turbo-VAED (arXiv 2508.09136). Group statistics of whole frames are
needed because this latent leaves global brightness and colour to them (TAEF2, madebyollin/taesd).

No layer runs at full resolution. Each stage paints what it knows of the picture, and the next
one corrects it, as in a Laplacian pyramid: colours are right early, and edges are all that the
costly last stage has to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.zoo.layers import ResidualBlock, SeparableVideoConv, fold_frames, unfold_frames


@dataclass(frozen=True)
class MiniConfig:
    latent_channels: int
    widths: tuple[int, ...]
    """Channels at 1/8, 1/4 and 1/2 resolution."""
    blocks: tuple[int, ...]
    """Residual blocks at 1/8, 1/4 and 1/2 resolution."""
    temporal_blocks: int = 2
    norm_eps: float = 1e-3
    """Large enough to stay a normal number in half precision, whose smallest is 6.1e-5."""


def conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


class FrameBlock(nn.Module):
    """x + conv(relu(conv(x))) on single frames; the sum is left linear, so no channel can die."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class FrameStatisticsBlock(nn.Module):
    """Three convolutions with a skip behind a branch normalised over the whole frame."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.norm = nn.GroupNorm(4, 4 * channels, eps=eps)
        self.narrow = nn.Conv2d(4 * channels, channels, 1)
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)
        self.conv3 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.narrow(F.relu(self.norm(self.widen(x))))
        return F.relu(x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))


class FrameUpsampler(nn.Module):
    """Convolution and pixel shuffle: twice the height and width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = conv(channels_in, 4 * channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def frame_stage(channels_in: int, channels_out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        FrameUpsampler(channels_in, channels_out),
        *(FrameBlock(channels_out) for _ in range(blocks)),
    )


class TurboVAEDMini(nn.Module):
    """Latents N 32 T h w to video N 3 T 8h 8w, nominally in [0, 1], not clamped."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        w8, w4, w2 = config.widths
        n8, n4, n2 = config.blocks
        self.conv_in = conv(config.latent_channels, w8)
        self.trunk = nn.Sequential(*(FrameStatisticsBlock(w8, config.norm_eps) for _ in range(n8)))
        self.time = nn.Sequential(
            *(
                ResidualBlock(w8, w8, SeparableVideoConv, rms_eps=config.norm_eps)
                for _ in range(config.temporal_blocks)
            )
        )
        self.up4 = frame_stage(w8, w4, n4)
        self.up2 = frame_stage(w4, w2, n2)
        # A pixel of 3 channels is 12 of half, 48 of a quarter, 192 of an eighth resolution.
        self.paint8, self.paint4, self.paint2 = conv(w8, 192), conv(w4, 48), conv(w2, 12)

    def trunk_features(self, latent: Tensor) -> Tensor:
        """Frame features at latent resolution, N·T C h w, before frames see each other."""
        return self.trunk(F.relu(self.conv_in(3 * torch.tanh(fold_frames(latent) / 3))))

    def across_time(self, features: Tensor, batch: int) -> Tensor:
        return fold_frames(self.time(unfold_frames(features, batch)))

    def paint(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frame features N C h w to pictures N 3 8h 8w, with the features of both upper stages."""
        quarter = self.up4(features)
        half = self.up2(quarter)
        picture = F.pixel_shuffle(self.paint8(features), 2) + self.paint4(quarter)
        picture = F.pixel_shuffle(picture, 2) + self.paint2(half)
        return F.pixel_shuffle(picture, 2), quarter, half

    def forward(self, latent: Tensor) -> Tensor:
        batch = latent.shape[0]
        features = self.across_time(self.trunk_features(latent), batch)
        pictures, _, _ = self.paint(features)
        return unfold_frames(pictures, batch)
