"""SSDLite heads (MobileNetV2, arXiv 1801.04381, in the form that MobileDet and MobileNetV3 use).

Two feature maps of a backbone and four smaller ones made of the last; per level one depthwise and
one 1×1 convolution each for boxes and for classes, nothing shared between levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.detection.anchors import ssd_anchors, ssd_cells, ssd_shapes
from edgekit.detection.coders import decode_anchors
from edgekit.zoo.same_conv import SameConv

EXTRA_CHANNELS = (512, 256, 256, 128)
NORM_EPS = 0.001
NORM_MOMENTUM = 0.03
CLASS_BIAS = -4.6
"""At first every class has a probability of 0.01, so that the many negatives do not drown the rest."""


class SSDLite(nn.Module):
    """Images N 3 H W to boxes N A 4 (x1 y1 x2 y2 in pixels) and scores N A classes in [0, 1].

    `backbone` gives a list of feature maps, the last two with `channels` at strides 16 and 32. A is
    2034 at 320×320; candidates are in the order of ssd_anchors. With `dense_heads` each head is one 3×3
    convolution, as in SSD (arXiv 1512.02325).
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        classes: int,
        *,
        tf_same: bool,
        dense_heads: bool = False,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, and is {classes}")
        self.backbone = backbone
        self.classes = classes
        self.extras = nn.ModuleList()
        levels = list(channels)
        for depth in EXTRA_CHANNELS:
            self.extras.append(_extra_level(levels[-1], depth, tf_same))
            levels.append(depth)
        anchors = [len(ssd_shapes(level)) for level in range(len(levels))]
        head = _dense_predictor if dense_heads else _predictor
        self.box_heads = nn.ModuleList(
            head(depth, count * 4, 0.0) for depth, count in zip(levels, anchors)
        )
        self.class_heads = nn.ModuleList(
            head(depth, count * (classes + 1), CLASS_BIAS) for depth, count in zip(levels, anchors)
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """The six maps that the heads look at, finest first."""
        maps = list(self.backbone(images)[-2:])
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Box codes N A 4 (see coders.decode_anchors) and logits N A (1 + classes), background first."""
        return self._heads(self.features(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = self._candidates(images, self.features(images))
        return boxes, torch.sigmoid(logits)

    def evidence(self, images: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, logits N A classes without the background's, and the backbone's two maps."""
        maps = self.features(images)
        boxes, logits = self._candidates(images, maps)
        return boxes, torch.sigmoid(logits), logits, *maps[:2]

    def _candidates(self, images: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes N A 4 and logits N A classes."""
        codes, logits = self._heads(maps)
        cells = [(x.shape[2], x.shape[3]) for x in maps]
        anchors = ssd_anchors(cells, images.shape[2], images.shape[3], codes)
        return decode_anchors(codes, anchors), logits[:, :, 1:]

    def anchors(self, height: int, width: int) -> Tensor:
        """A 4 as centre x, centre y, width, height in pixels, for images of this size."""
        return ssd_anchors(ssd_cells(height, width), height, width, next(self.parameters()))

    def _heads(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        codes = torch.cat([_rows(head(x), 4) for head, x in zip(self.box_heads, maps)], dim=1)
        logits = torch.cat(
            [_rows(head(x), self.classes + 1) for head, x in zip(self.class_heads, maps)], dim=1
        )
        return codes, logits


def _rows(x: Tensor, numbers: int) -> Tensor:
    """N (anchors · numbers) H W to N (H · W · anchors) numbers."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)


def _conv_norm(conv: nn.Conv2d) -> list[nn.Module]:
    nn.init.trunc_normal_(conv.weight, std=0.03, a=-0.06, b=0.06)
    return [conv, nn.BatchNorm2d(conv.out_channels, NORM_EPS, NORM_MOMENTUM), nn.ReLU6()]


def _extra_level(channels_in: int, channels: int, tf_same: bool) -> nn.Sequential:
    """To half the size."""
    half = channels // 2
    return nn.Sequential(
        *_conv_norm(SameConv(channels_in, half, 1, tf_same=tf_same)),
        *_conv_norm(SameConv(half, half, 3, 2, groups=half, tf_same=tf_same)),
        *_conv_norm(SameConv(half, channels, 1, tf_same=tf_same)),
    )


def _predictor(channels: int, outputs: int, bias: float) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(*_conv_norm(depthwise), _last(channels, outputs, 1, bias))


def _dense_predictor(channels: int, outputs: int, bias: float) -> nn.Sequential:
    return nn.Sequential(_last(channels, outputs, 3, bias))


def _last(channels: int, outputs: int, kernel: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
    # Of 3×3 numbers of 1280 channels, 0.03 would saturate every score of a network that is not trained.
    nn.init.normal_(conv.weight, std=0.03 / kernel**2)
    nn.init.constant_(conv.get_parameter("bias"), bias)
    return conv
