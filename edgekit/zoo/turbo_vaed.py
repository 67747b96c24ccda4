"""The Turbo-VAED decoders (arXiv 2508.09136), built from configuration.

Execution order: conv_in, a mid block of depthwise-separable residual blocks, four up blocks of
which the last three double height and width (and time, unless spatial-only), then either a norm
(patch 1) or two 2-D pixel-shuffle steps (patch 4), and conv_out. Submodule names are those of the
official state dicts (hustvl/Turbo-VAED).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.zoo.layers import (
    ChannelRMSNorm,
    ResidualBlock,
    SeparableVideoConv,
    ShuffleUpsampler,
    VideoConv,
    fold_frames,
    unfold_frames,
)

RMS_EPS = 1e-8  # the official residual blocks and final norm; 0 in half precision


@dataclass(frozen=True)
class TurboVAEDConfig:
    """Widths and depths in execution order: the reverse of the lists in the official JSON files."""

    latent_channels: int
    widths: tuple[int, int, int, int]
    """Output channels of up blocks 0-3; the mid block has the first."""
    layers: tuple[int, int, int, int, int]
    """Residual blocks of the mid block and of up blocks 0-3."""
    time_strides: tuple[int, int, int]
    """Temporal upsampling of up blocks 1-3."""
    patch_size: int
    """4: two 2-D pixel-shuffle steps follow the up blocks; 1: none."""
    drop_lead_frames: bool
    """The first latent gives one frame: T latents give s·(T-1)+1 frames, else s·T."""


class UpBlock(nn.Module):
    """Width change, upsampler, residual blocks; without a time stride only the residual blocks."""

    def __init__(
        self, channels_in: int, channels: int, layers: int, time_stride: int, drop_lead: bool
    ) -> None:
        super().__init__()
        self.conv_in: nn.Module = nn.Identity()
        if channels_in != channels:
            self.conv_in = ResidualBlock(channels_in, channels, VideoConv, rms_eps=RMS_EPS)
        self.upsamplers = nn.ModuleList(
            [ShuffleUpsampler(channels, time_stride, drop_lead=drop_lead)]
        )
        self.resnets = residual_blocks(channels, layers, VideoConv, first_activation=F.relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets(self.upsamplers[0](self.conv_in(x)))


class ResidualStack(nn.Module):
    """Depthwise-separable residual blocks at latent resolution."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.resnets = residual_blocks(channels, layers, SeparableVideoConv)

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets(x)


def residual_blocks(
    channels: int,
    layers: int,
    conv: type[VideoConv] | type[SeparableVideoConv],
    first_activation: Callable[[Tensor], Tensor] = F.silu,
) -> nn.Sequential:
    return nn.Sequential(
        *(
            ResidualBlock(
                channels, channels, conv, first_activation=first_activation, rms_eps=RMS_EPS
            )
            for _ in range(layers)
        )
    )


class FrameShuffle(nn.Module):
    """RMS norm, SiLU, 2-D convolution and pixel shuffle of each frame: twice H and W, a quarter C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(RMS_EPS)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        frames = fold_frames(F.silu(self.norm(x)))
        return unfold_frames(F.pixel_shuffle(self.conv(frames), 2), x.shape[0])


class TurboVAEDDecoder(nn.Module):
    """Raw teacher latents N C T h w to video N 3 T' H W, nominally in [-1, 1], not clamped."""

    def __init__(self, config: TurboVAEDConfig) -> None:
        super().__init__()
        if config.patch_size not in (1, 4):
            raise ValueError(f"patch_size must be 1 or 4, and {config.patch_size} was given")
        mid = config.widths[0]
        self.conv_in = VideoConv(config.latent_channels, mid)
        self.mid_block = ResidualStack(mid, config.layers[0])
        blocks: list[nn.Module] = [ResidualStack(mid, config.layers[1])]
        for index, stride in enumerate(config.time_strides):
            blocks.append(
                UpBlock(
                    config.widths[index],
                    config.widths[index + 1],
                    config.layers[index + 2],
                    stride,
                    config.drop_lead_frames,
                )
            )
        self.up_blocks = nn.Sequential(*blocks)
        channels = config.widths[-1]
        if config.patch_size == 4:
            self.upsampler2d_1 = FrameShuffle(channels)
            self.upsampler2d_2 = FrameShuffle(channels // 4)
            channels //= 16
        self.norm_out = ChannelRMSNorm(RMS_EPS)
        self.conv_out = VideoConv(channels, 3)
        self.patch_size = config.patch_size

    def forward(self, latent: Tensor) -> Tensor:
        x = self.up_blocks(self.mid_block(self.conv_in(latent)))
        if self.patch_size == 4:
            x = self.upsampler2d_2(self.upsampler2d_1(x))
        return self.conv_out(F.silu(self.norm_out(x)))
