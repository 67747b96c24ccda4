"""Small video networks: causal or not, with every way of padding, dropping and repeating frames."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F


class TimeConv(nn.Module):
    """A 3D convolution whose frames before and behind are zeros or copies; all before if causal."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, *, causal: bool, zeros: bool, stride: int = 1, dilation: int = 1
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv3d(
            channels_in, channels, (kernel, 3, 3), (stride, 1, 1), (0, 1, 1), (dilation, 1, 1)
        )
        reach = (kernel - 1) * dilation
        self.before = reach if causal else reach // 2
        self.behind = reach - self.before
        self.zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        if self.zeros:
            return self.conv(F.pad(x, (0, 0, 0, 0, self.before, self.behind)))
        first, last = [x[:, :, :1]] * self.before, [x[:, :, -1:]] * self.behind
        return self.conv(torch.cat([*first, x, *last], 2))


class TimeResidual(nn.Module):
    """A channel norm of each pixel, an activation, a convolution in time, added to the input."""

    def __init__(self, channels: int, **options: bool) -> None:
        super().__init__()
        self.conv = TimeConv(channels, channels, 3, **options)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3)
        return x + self.conv(F.silu(x * scale))


class MoreFrames(nn.Module):
    """Two frames of each, from channels; the very first one is dropped if asked."""

    def __init__(self, channels: int, *, drop_first: bool, **options: bool) -> None:
        super().__init__()
        self.conv = TimeConv(channels, 2 * channels, 3, **options)
        self.drop_first = drop_first

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        n, c, t, h, w = y.shape
        y = y.view(n, c // 2, 2, t, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, c // 2, 2 * t, h, w)
        return y[:, :, 1:] if self.drop_first else y


class TwiceAsLarge(nn.Module):
    """Height and width of each frame, by pixel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        frames = x.permute(0, 2, 1, 3, 4).reshape(n * t, c, h, w)
        y = F.pixel_shuffle(self.conv(frames), 2)
        return y.view(n, t, c, 2 * h, 2 * w).permute(0, 2, 1, 3, 4)


@st.composite
def time_layers(draw: st.DrawFn, channels: int, causal: bool) -> nn.Module:
    zeros = draw(st.booleans())
    kind = draw(st.sampled_from(["conv", "residual", "more", "fewer", "large", "repeat"]))
    match kind:
        case "conv":
            kernel = draw(st.sampled_from([1, 3, 5] if not causal else [1, 2, 3]))
            return TimeConv(
                channels, channels, kernel, causal=causal, zeros=zeros, dilation=draw(st.integers(1, 2))
            )  # fmt: skip
        case "residual":
            return TimeResidual(channels, causal=causal, zeros=zeros)
        case "more":
            return MoreFrames(channels, drop_first=draw(st.booleans()), causal=causal, zeros=zeros)
        case "fewer":
            return TimeConv(channels, channels, 3, causal=causal, zeros=zeros, stride=2)
        case "repeat":
            return nn.Upsample(scale_factor=(2, 1, 1))
    return TwiceAsLarge(channels)


@st.composite
def video_networks(draw: st.DrawFn) -> nn.Module:
    """Of 2 channels; one that is causal in every layer, or in none."""
    causal = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 99)))
    drawn = [draw(time_layers(2, causal)) for _ in range(draw(st.integers(1, 4)))]
    return nn.Sequential(*drawn, TimeConv(2, 3, 1, causal=causal, zeros=True)).eval()


def causal_decoder(channels: int = 8) -> nn.Module:
    """As causal video decoders are built: the first latent gives one frame, others two each."""
    torch.manual_seed(0)
    options = {"causal": True, "zeros": False}
    return nn.Sequential(
        TimeConv(4, channels, 3, causal=True, zeros=False),
        TimeResidual(channels, **options),
        MoreFrames(channels, drop_first=True, **options),
        TwiceAsLarge(channels),
        TimeResidual(channels, **options),
        TimeConv(channels, 3, 3, causal=True, zeros=False),
    ).eval()
