"""SSD on MobileNetV2, as TensorFlow's detection zoo has it (ssd_mobilenet_v2_coco_2018_03_29).

The first heads look at the widened input of the block that goes from stride 16 to 32, the second at
the last 1×1 convolution; four smaller levels as in ssdlite.py, and dense 3×3 heads. Layers, paddings and
the norms' epsilon were read off the published frozen graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgekit.zoo.mobiledet import Block, Row, Style
from edgekit.zoo.ssdlite import SSDLite

NORM_EPS = 0.001


@dataclass(frozen=True)
class SSDMobileNetConfig:
    stem: int
    """Channels of the first convolution, 3×3 with stride 2."""
    blocks: tuple[Row, ...]
    """Rows as MobileDet's; all are inverted bottlenecks, and four have stride 2."""
    last: int
    """Channels of the 1×1 convolution behind them."""
    classes: int


def ssd_mobilenet(config: SSDMobileNetConfig) -> SSDLite:
    backbone = SSDMobileNetBackbone(config)
    return SSDLite(backbone, backbone.channels, config.classes, tf_same=True, dense_heads=True)


class SSDMobileNetBackbone(nn.Module):
    """Images N 3 H W, from -1 to 1, to features at strides 16 and 32."""

    def __init__(self, config: SSDMobileNetConfig) -> None:
        super().__init__()
        style = Style(nn.ReLU6, squeeze=False, norm_eps=NORM_EPS, tf_same=True)
        downward = [index for index, row in enumerate(config.blocks) if row[4] == 2]
        if len(downward) != 4 or {row[4] for row in config.blocks} - {1, 2}:
            raise ValueError(
                "four of the blocks need stride 2 and the others 1: heads sit at 16 and 32"
            )
        self.tapped = downward[-1]
        kind, _, expansion = config.blocks[self.tapped][:3]
        if kind != "inverted" or not isinstance(expansion, int) or expansion == 0:
            raise ValueError("the last block of stride 2 must be inverted, and widen its input")
        channels = config.stem
        self.stem = nn.Sequential(*style.active(3, channels, 3, 2))
        self.blocks = nn.ModuleList()
        for index, row in enumerate(config.blocks):
            if index == self.tapped:
                widened = channels * expansion
            block = Block(channels, row, 1.0, style)
            self.blocks.append(block)
            channels = block.channels
        self.last = nn.Sequential(*style.active(channels, config.last, 1))
        self.channels = (widened, config.last)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        blocks: Any = self.blocks
        for index, block in enumerate(blocks):
            if index == self.tapped:
                widened = block.layers[:WIDENING](x)
                x = block.layers[WIDENING:](widened)
            else:
                x = block(x)
        return [widened, self.last(x)]


WIDENING = 3
"""Layers of a block that widen its input: convolution, norm, activation."""
