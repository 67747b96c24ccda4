"""SRVGGNetCompact: super-resolution without skips inside (Real-ESRGAN's small models).

Plain 3×3 convolutions and PReLU at the input's resolution, one pixel shuffle at the end, and the
enlarged input added. Submodule names are those of the official state dicts (xinntao/Real-ESRGAN,
realesr-animevideov3).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SRVGGConfig:
    width: int
    convs: int
    """Convolutions from width to width, between the first and the last."""
    scale: int


class SRVGG(nn.Module):
    """Pictures N 3 H W in [0, 1] to N 3 H·scale W·scale, nominally in [0, 1], not clamped."""

    def __init__(self, config: SRVGGConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, config.width), nn.PReLU(config.width)]
        for _ in range(config.convs):
            layers += [_conv(config.width, config.width), nn.PReLU(config.width)]
        layers.append(_conv(config.width, 3 * config.scale**2))
        self.body = nn.Sequential(*layers)
        self.scale = config.scale

    def forward(self, picture: Tensor) -> Tensor:
        detail = F.pixel_shuffle(self.body(picture), self.scale)
        return detail + F.interpolate(picture, scale_factor=float(self.scale), mode="nearest")


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Random weights keep the signal's size through PReLU, whose slope starts at 0.25."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=0.25)
    return conv
