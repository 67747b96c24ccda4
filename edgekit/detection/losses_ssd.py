"""SSD's loss as MobileDet is trained: focal for classes over all anchors, Huber for matched boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.detection.anchors import ssd_anchors, ssd_cells
from edgekit.detection.assignment_anchors import match_anchors
from edgekit.detection.coders import encode_anchors
from edgekit.detection.targets import Losses, Target, usable_targets


@dataclass(frozen=True)
class SSDLoss:
    alpha: float = 0.75
    """Weight of positives in the focal loss; 1 - alpha of negatives."""
    gamma: float = 2.0
    box_weight: float = 1.0
    class_weight: float = 1.0

    def __call__(
        self, raw: tuple[Tensor, Tensor], targets: Sequence[Target], size: tuple[int, int]
    ) -> Losses:
        """`raw` is what SSDLite.raw gives for images of `size` (height, width). Raises UsageError."""
        codes, logits = (x.float() for x in raw)
        height, width = size
        anchors = ssd_anchors(ssd_cells(height, width), height, width, codes)
        n, _, slots = logits.shape
        wanted = torch.zeros_like(logits)
        box_sum, matched = codes.sum() * 0, 0
        usable = usable_targets(targets, n, height, width, slots - 1, codes)
        for image, target in enumerate(usable):
            objects = match_anchors(anchors, target)
            (places,) = torch.nonzero(objects >= 0, as_tuple=True)
            chosen = objects[places]
            wanted[image, places, 1 + target.classes[chosen]] = 1
            encoded = encode_anchors(target.boxes[chosen], anchors[places])
            box_sum = box_sum + F.smooth_l1_loss(codes[image, places], encoded, reduction="sum") / 4
            matched += len(places)
        boxes = box_sum / max(1, matched)
        classes = sigmoid_focal(logits, wanted, self.alpha, self.gamma).sum() / max(1, matched)
        total = self.box_weight * boxes + self.class_weight * classes
        return Losses(total, {"boxes": boxes, "classes": classes})


def sigmoid_focal(logits: Tensor, wanted: Tensor, alpha: float, gamma: float) -> Tensor:
    """Cross-entropy times (1 - probability of what is wanted)^gamma (arXiv 1708.02002); same shape."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    chance = torch.sigmoid(logits)
    missed = chance + wanted - 2 * chance * wanted
    return entropy * missed**gamma * (1 - alpha + (2 * alpha - 1) * wanted)
