"""CoDeNet (arXiv 2006.08357): CenterNet on ShuffleNetV2, made for an FPGA.

The decoder's convolutions are deformable in the one way that hardware can buffer; see
square_deform.py. State dict keys are those of the official program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.detection.anchors import CENTRE_STRIDE, centres
from edgekit.zoo.square_deform import SquareDeformConv

UNITS = (4, 8, 4)
DECODER = (256, 128, 64)
HEAT_BIAS = -2.19
"""Every cell begins with a probability of 0.1, as in CornerNet."""


@dataclass(frozen=True)
class CoDeNetConfig:
    widths: tuple[int, int, int, int, int]
    """Channels of stem, of the three stages at strides 8, 16 and 32, and of the last 1×1 convolution."""
    stem: str
    """"stride4", or "pool": stride 2 and a max pool, finer and slower."""
    classes: int
    whole_offsets: bool = False
    """Dilations of the deformable convolutions are whole numbers."""


class CoDeNet(nn.Module):
    """Images N 3 H W to boxes N A 4 (x1 y1 x2 y2 in pixels) and scores N A classes in [0, 1].

    H and W are multiples of 32; A counts the cells of stride 4. A cell that is no peak of its class has
    score 0 there, so that the best A are the detections and nothing is left to suppress.
    """

    def __init__(self, config: CoDeNetConfig) -> None:
        super().__init__()
        _check(config)
        stem, *stages, last = config.widths
        self.layer0 = _stem(stem, config.stem)
        self.layer1, self.layer2, self.layer3 = (
            _stage(before, after, units)
            for before, after, units in zip((stem, *stages), stages, UNITS)
        )
        self.layer4 = nn.Sequential(_conv(stages[-1], last), nn.BatchNorm2d(last), nn.ReLU())
        self.deconv_layers = _decoder(last, whole_offsets=config.whole_offsets)
        self.hm = _head(config.classes, HEAT_BIAS)
        self.wh = _head(2, 0.0)
        self.reg = _head(2, 0.0)

    def features(self, images: Tensor) -> Tensor:
        """N 64 H/4 W/4."""
        x = self.layer0(images)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.deconv_layers(self.layer4(x))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """On the cells: logits of centres, N classes h w, and N 2 h w each of width and height, and of
        the centre's offset from its cell's corner, x first; both in cells."""
        return self._heads(self.features(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return decode_peaks(*self.raw(images))

    def evidence(self, images: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, logits N A classes also of what is no peak, and the map of `features`."""
        x = self.features(images)
        heat, sizes, offsets = self._heads(x)
        return *decode_peaks(heat, sizes, offsets), heat.flatten(2).transpose(1, 2), x

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.hm(x), self.wh(x), self.reg(x)


def decode_peaks(heat: Tensor, sizes: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes N (h · w) 4 in pixels and scores N (h · w) classes of what `raw` gives."""
    # Of logits, which differ where probabilities near 1 are rounded to the same number.
    is_peak = F.max_pool2d(heat, 3, 1, 1) == heat
    scores = torch.where(is_peak, torch.sigmoid(heat), 0.0)
    rows, columns = heat.shape[2:]
    corners = centres(rows, columns, heat) - 0.5
    middle = (corners + offsets.flatten(2).transpose(1, 2)) * CENTRE_STRIDE
    half = sizes.flatten(2).transpose(1, 2) * (CENTRE_STRIDE / 2)
    boxes = torch.cat([middle - half, middle + half], dim=2)
    return boxes, scores.flatten(2).transpose(1, 2)


def _check(config: CoDeNetConfig) -> None:
    if config.stem not in ("stride4", "pool"):
        raise ValueError(f'stem must be "stride4" or "pool", and is {config.stem!r}')
    if len(config.widths) != 5 or any(width < 1 for width in config.widths):
        raise ValueError(f"widths must be 5 channel counts, and are {list(config.widths)}")
    if any(width % 2 for width in config.widths[1:4]):
        raise ValueError("widths of the three stages must be even: their units halve them")
    if config.classes < 1:
        raise ValueError(f"classes must be at least 1, and is {config.classes}")


def _stem(channels: int, kind: str) -> nn.Sequential:
    stride = 4 if kind == "stride4" else 2
    layers = [_conv(3, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU()]
    pool = [nn.MaxPool2d(3, 2, 1)] if kind == "pool" else []
    return nn.Sequential(*layers, *pool)


def _stage(channels_in: int, channels_out: int, units: int) -> nn.Sequential:
    return nn.Sequential(
        DownUnit(channels_in, channels_out),
        *(ShuffleUnit(channels_out) for _ in range(units - 1)),
    )


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the others are convolved, and both are interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.b2 = _bottleneck(half, half, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return interleaved(left, self.b2(right))


class DownUnit(nn.Module):
    """To half the size: two branches, interleaved."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.b1 = nn.Sequential(
            _conv(channels_in, channels_in, 3, 2, channels_in),
            nn.BatchNorm2d(channels_in),
            _conv(channels_in, half),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )
        self.b2 = _bottleneck(channels_in, half, 2)

    def forward(self, x: Tensor) -> Tensor:
        return interleaved(self.b1(x), self.b2(x))


def interleaved(a: Tensor, b: Tensor) -> Tensor:
    """Channels a0 b0 a1 b1 ..."""
    n, channels, h, w = a.shape
    return torch.stack([a, b], dim=2).reshape(n, 2 * channels, h, w)


def _bottleneck(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(channels_in, channels_out),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        _conv(channels_out, channels_out, 3, stride, channels_out),
        nn.BatchNorm2d(channels_out),
        _conv(channels_out, channels_out),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def _decoder(channels: int, *, whole_offsets: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for made in DECODER:
        layers += [
            SquareDeformConv(channels, made, whole_offsets=whole_offsets),
            nn.BatchNorm2d(made),
            nn.ReLU(),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
        ]
        channels = made
    return nn.Sequential(*layers)


def _head(outputs: int, bias: float) -> nn.Sequential:
    channels = DECODER[-1]
    last = nn.Conv2d(channels, outputs, 1)
    nn.init.constant_(last.get_parameter("bias"), bias)
    return nn.Sequential(
        _conv(channels, channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        _conv(channels, channels, 3, 1, channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        last,
    )


def _conv(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Random weights keep the signal's size."""
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (channels_in // groups * kernel**2)))
    return conv
