"""Blocks of the video decoders: norms, convolutions and shuffles on N C T H W tensors.

Names of submodules follow the official Turbo-VAED state dicts, so that those load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]


class ChannelRMSNorm(nn.Module):
    """x / sqrt(mean over channels of x² + eps), without weights, for any rank with channels at 1."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + self.eps)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channel axis of N C T H W, with weight and bias."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def repeat_edge_frames(x: Tensor, frames: int) -> Tensor:
    """Repeat the first and the last frame of N C T H W `frames` times at their ends."""
    return F.pad(x, (0, 0, 0, 0, frames, frames), mode="replicate") if frames else x


class VideoConv(nn.Module):
    """Conv3d that keeps T H W: edge frames are repeated in time, zeros surround each frame."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.reach = kernel // 2
        padding = (0, self.reach, self.reach)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(repeat_edge_frames(x, self.reach))


class SeparableVideoConv(nn.Module):
    """Depthwise k×k×k convolution, then pointwise; nothing in between. Keeps T H W."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 5) -> None:
        super().__init__()
        self.reach = kernel // 2
        padding = (0, self.reach, self.reach)
        self.depthwise_conv = nn.Conv3d(
            channels_in, channels_in, kernel, padding=padding, groups=channels_in
        )
        self.pointwise_conv = nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(repeat_edge_frames(x, self.reach)))


class ResidualBlock(nn.Module):
    """x + conv2(SiLU(norm(conv1(act(norm(x)))))); a width change adds LayerNorm and a 1×1×1 conv."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        conv: type[VideoConv] | type[SeparableVideoConv],
        *,
        first_activation: Activation = F.silu,
        rms_eps: float,
        layer_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(rms_eps)
        self.first_activation = first_activation
        self.conv1 = conv(channels_in, channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.norm3: nn.Module = nn.Identity()
        self.conv_shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.norm3 = ChannelLayerNorm(channels_in, eps=layer_eps)
            self.conv_shortcut = VideoConv(channels_in, channels_out, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.first_activation(self.norm(x)))
        h = self.conv2(F.silu(self.norm(h)))
        return h + self.conv_shortcut(self.norm3(x))


def fold_frames(x: Tensor) -> Tensor:
    """N C T H W to N·T C H W, so that 2-D layers see one frame at a time."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """N·T C H W back to N C T H W."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def channels_to_frames(x: Tensor, stride: int) -> Tensor:
    """N (C·stride) T H W to N C (T·stride) H W; the frame offset is the fastest channel digit."""
    n, c, t, h, w = x.shape
    x = x.view(n, c // stride, stride, t, h, w)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, c // stride, t * stride, h, w)


class ShuffleUpsampler(nn.Module):
    """Conv3d, then channels to frames, then 2-D pixel shuffle (Turbo-VAED, decoupled shuffle).

    With `drop_lead` the first `stride_t - 1` frames go, so T latents become stride_t·(T-1)+1 frames.
    """

    def __init__(self, channels: int, stride_t: int, *, drop_lead: bool) -> None:
        super().__init__()
        self.stride_t = stride_t
        self.drop_lead = drop_lead
        self.conv = VideoConv(channels, channels * stride_t * 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.stride_t > 1:
            x = channels_to_frames(x, self.stride_t)
        x = unfold_frames(F.pixel_shuffle(fold_frames(x), 2), x.shape[0])
        return x[:, :, self.stride_t - 1 :] if self.drop_lead and self.stride_t > 1 else x
