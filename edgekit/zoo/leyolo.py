"""LeYOLO (arXiv 2406.14239): inverted bottlenecks, a pyramid without side convolutions, light heads.

Written from a description of the released networks. State dict keys are the published ones, so that
a user's own checkpoint of the official program loads. Medium and Large are one network, whose heads
were released on three layers that are not the last of their level: `wiring = "released"` keeps that,
and "fixed" puts them where the others have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edgekit.detection.anchors import POINT_STRIDES, points_of_levels
from edgekit.detection.coders import BINS, decode_distances

NORM_EPS = 1e-3
NORM_MOMENTUM = 0.03
WIDEST = 576


@dataclass(frozen=True)
class LeYOLOConfig:
    width: float
    """Factor of all channel counts, in eights upwards: 1.0 Nano, 1.33 the others."""
    blocks: tuple[int, int, int]
    """Inverted bottlenecks of the backbone at strides 8, 16 and 32."""
    neck_blocks: int
    """Bottlenecks at each of the four nodes of the pyramid: 3, or 4 in Medium and Large."""
    wiring: str
    """"released" or "fixed"; the same for three neck blocks."""
    classes: int


class LeYOLO(nn.Module):
    """Images N 3 H W in [0, 1] to boxes N A 4 (x1 y1 x2 y2 in pixels) and scores N A classes.

    H and W are multiples of 32; A counts the cells of strides 8, 16 and 32: 8400 at 640×640.
    """

    def __init__(self, config: LeYOLOConfig) -> None:
        super().__init__()
        _check(config)
        self.model, self.sources = _layers(config)
        self.kept = {index for sources in self.sources for index in sources}

    def features(self, images: Tensor) -> list[Tensor]:
        """The three maps that the heads look at, finest first."""
        kept: dict[int, Tensor] = {}
        x = images
        for index, (layer, sources) in enumerate(zip(list(self.model)[:-1], self.sources)):
            x = layer(*(kept[source] for source in sources)) if sources else layer(x)
            if index in self.kept:
                kept[index] = x
        return [kept[source] for source in self.sources[-1]]

    def raw(self, images: Tensor) -> list[Tensor]:
        """Per stride N (64 + classes) h w: 16 bins each of left, top, right and bottom, then logits."""
        levels: list[Tensor] = self.head(*self.features(images))
        return levels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = self._candidates(self.raw(images))
        return boxes, torch.sigmoid(logits)

    def evidence(self, images: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, logits N A classes, and the maps of `features`."""
        maps = self.features(images)
        boxes, logits = self._candidates(self.head(*maps))
        return boxes, torch.sigmoid(logits), logits, *maps

    def _candidates(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes N A 4 and logits N A classes of what `raw` gives."""
        cells = [(x.shape[2], x.shape[3]) for x in maps]
        points, strides = points_of_levels(cells, POINT_STRIDES, maps[0])
        x = torch.cat([level.flatten(2) for level in maps], dim=2)
        distances = self.head.distances(x[:, : 4 * BINS])
        boxes = decode_distances(distances.transpose(1, 2), points, strides)
        return boxes, x[:, 4 * BINS :].transpose(1, 2)

    @property
    def head(self) -> Head:
        return cast(Head, self.model[-1])


def _check(config: LeYOLOConfig) -> None:
    if config.wiring not in ("released", "fixed"):
        raise ValueError(f'wiring must be "released" or "fixed", and is {config.wiring!r}')
    if config.neck_blocks not in (3, 4):
        raise ValueError(f"neck_blocks must be 3 or 4, and is {config.neck_blocks}")
    if config.classes < 1 or min(config.blocks) < 1 or config.width <= 0:
        raise ValueError("classes, width and blocks must be above 0")


class _Plan:
    """Layers in the order of the published numbering, each with the layers that it reads."""

    def __init__(self, config: LeYOLOConfig) -> None:
        self.layers: list[nn.Module] = []
        self.sources: list[tuple[int, ...]] = []
        self.channels: list[int] = []
        self.width = config.width

    @property
    def last(self) -> int:
        return len(self.layers) - 1

    def scaled(self, channels: int) -> int:
        return math.ceil(min(channels, WIDEST) * self.width / 8) * 8

    def add(self, layer: nn.Module, channels: int, *sources: int) -> int:
        """Without sources it reads the layer before. Returns its number."""
        self.layers.append(layer)
        self.channels.append(channels)
        self.sources.append(sources)
        return self.last

    def convolve(self, channels: int, kernel: int, stride: int) -> int:
        before = self.channels[-1] if self.channels else 3
        made = self.scaled(channels)
        return self.add(ConvNorm(before, made, kernel, stride), made)

    def bottleneck(self, channels: int, kernel: int, expanded: int, stride: int = 1) -> int:
        """`expanded` 0: no widening convolution."""
        made, before = self.scaled(channels), self.channels[-1]
        middle = self.scaled(expanded) if expanded else 0
        return self.add(Bottleneck(before, made, kernel, middle, stride), made)

    def join(self, *sources: int) -> int:
        return self.add(Concat(), sum(self.channels[index] for index in sources), *sources)

    def enlarge(self) -> int:
        return self.add(nn.Upsample(scale_factor=2.0, mode="nearest"), self.channels[-1])


def _layers(config: LeYOLOConfig) -> tuple[nn.ModuleList, list[tuple[int, ...]]]:
    plan = _Plan(config)
    plan.convolve(16, 3, 2)
    plan.convolve(16, 1, 1)
    plan.bottleneck(16, 3, 0, 2)
    taps = []
    at_8, at_16, at_32 = config.blocks
    for index in range(at_8):
        plan.bottleneck(32, 3, 96, 2 if index == 0 else 1)
    taps.append(plan.last)
    for index in range(at_16):
        plan.bottleneck(64, 5, 192 if index else 96, 1 if index else 2)
    taps.append(plan.last)
    for index in range(at_32):
        plan.bottleneck(96, 5, 576, 1 if index else 2)
    pooled = plan.scaled(96)
    taps.append(plan.add(PyramidPool(plan.channels[-1], pooled), pooled))
    levels = _neck(plan, config, *taps)
    channels = [plan.channels[index] for index in levels]
    plan.add(Head(channels, config.classes), 0, *levels)
    return nn.ModuleList(plan.layers), plan.sources


def _neck(plan: _Plan, config: LeYOLOConfig, at_8: int, at_16: int, at_32: int) -> tuple[int, ...]:
    """Down to stride 8 and up again; returns the layers that the heads read."""
    blocks, is_long = config.neck_blocks, config.neck_blocks == 4
    plan.join(plan.enlarge(), at_16)
    for _ in range(blocks):
        plan.bottleneck(64, 5, 128)
    middle = plan.last
    plan.join(plan.enlarge(), at_8)
    finest = [plan.bottleneck(32, 3, 0), plan.bottleneck(32, 3, 64), plan.bottleneck(32, 3, 64)]
    if is_long:  # the released fourth block is a copy of those at stride 16
        finest.append(plan.bottleneck(64, 5, 128))
    plan.join(plan.convolve(64, 3, 2), middle)
    medium = [plan.bottleneck(64, 5, 128) for _ in range(blocks)]
    coarse = [plan.join(plan.convolve(96, 3, 2), at_32)]
    coarse += [plan.bottleneck(96, 5, 192) for _ in range(3)]
    if is_long:  # the same
        coarse.append(plan.bottleneck(64, 5, 128))
        if config.wiring == "released":
            return finest[1], medium[0], coarse[0]
    return finest[-1], medium[-1], coarse[-1]


class Concat(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=1)


class ConvNorm(nn.Module):
    """Convolution with bias, norm, SiLU."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups)
        self.bn = _norm(channels_out)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.c(x)))


class Bottleneck(nn.Module):
    """Widen to `expanded` channels (0: not at all), filter each, narrow; plus the input if it fits."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, expanded: int, stride: int
    ) -> None:
        super().__init__()
        self.adds_input = stride == 1 and channels_in == channels_out
        middle = expanded or channels_in
        self.layers = nn.Sequential(
            *([ConvNorm(channels_in, middle, 1)] if expanded else []),
            ConvNorm(middle, middle, kernel, stride, middle),
            nn.Conv2d(middle, channels_out, 1),
            _norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds_input else self.layers(x)


class PyramidPool(nn.Module):
    """The map beside its maxima over 5×5, 9×9 and 13×13 pixels, by three pools in a row."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_in // 2
        self.cv1 = PlainConvNorm(channels_in, half)
        self.cv2 = PlainConvNorm(half * 4, channels_out)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.cv2(torch.cat(maps, dim=1))


class PlainConvNorm(nn.Module):
    """Convolution without bias, norm, SiLU."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = _norm(channels_out)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Head(nn.Module):
    """Per level a branch for the four distances and one for the classes."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        boxes = max(16, channels[0] // 4, 4 * BINS)
        scores = max(channels[0], min(classes, 100))
        self.cv2 = nn.ModuleList(_branch(count, boxes, 4 * BINS) for count in channels)
        self.cv3 = nn.ModuleList(_branch(count, scores, classes) for count in channels)
        self.dfl = Expectation()
        for box, score, stride in zip(self.cv2, self.cv3, POINT_STRIDES):
            nn.init.constant_(box.get_parameter("3.bias"), 1.0)
            # about five objects in a picture of 640×640, of any class
            chance = 5 / classes / (640 / stride) ** 2
            nn.init.constant_(score.get_parameter("3.bias"), math.log(chance))

    def forward(self, *maps: Tensor) -> list[Tensor]:
        return [
            torch.cat([box(x), score(x)], dim=1) for box, score, x in zip(self.cv2, self.cv3, maps)
        ]

    def distances(self, bins: Tensor) -> Tensor:
        """N (4 · 16) A to N 4 A, in cells."""
        return self.dfl(bins)


def _branch(channels: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        PlainConvNorm(channels, middle),
        PlainConvNorm(middle, middle, 3, middle),
        PlainConvNorm(middle, middle, 3, middle),
        nn.Conv2d(middle, outputs, 1),
    )


class Expectation(nn.Module):
    """Mean of the distribution over bins, whose values are a frozen weight in published files."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(BINS).view(1, BINS, 1, 1))

    def forward(self, bins: Tensor) -> Tensor:
        n, _, count = bins.shape
        shares = bins.view(n, 4, BINS, count).transpose(1, 2).softmax(dim=1)
        return self.conv(shares).view(n, 4, count)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, NORM_EPS, NORM_MOMENTUM)
