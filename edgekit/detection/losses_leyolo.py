"""LeYOLO's loss: cross-entropy towards aligned scores, complete IoU, and a distribution of distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.detection.anchors import POINT_STRIDES, points_of_levels
from edgekit.detection.assignment_aligned import AlignedAssigner
from edgekit.detection.coders import BINS, decode_distances, encode_distances
from edgekit.detection.overlap import complete_iou
from edgekit.detection.targets import Losses, Target, usable_targets


@dataclass(frozen=True)
class LeYOLOLoss:
    box_weight: float = 7.5
    class_weight: float = 0.5
    distance_weight: float = 1.5
    assigner: AlignedAssigner = field(default_factory=AlignedAssigner)

    def __call__(
        self, raw: Sequence[Tensor], targets: Sequence[Target], size: tuple[int, int]
    ) -> Losses:
        """`raw` is what LeYOLO.raw gives for images of `size` (height, width). Raises UsageError.

        All terms are divided by the sum of wanted scores, at least 1, and the total is multiplied by
        the batch, as published.
        """
        maps = [x.float() for x in raw]
        n = len(maps[0])
        points, strides = points_of_levels(
            [(x.shape[2], x.shape[3]) for x in maps], POINT_STRIDES, maps[0]
        )
        x = torch.cat([level.flatten(2) for level in maps], dim=2).transpose(1, 2)
        bins, logits = x[..., : 4 * BINS].reshape(n, -1, 4, BINS), x[..., 4 * BINS :]
        distances = bins.softmax(dim=3) @ torch.arange(BINS, dtype=x.dtype, device=x.device)
        boxes = decode_distances(distances, points, strides)
        chances = logits.detach().sigmoid()

        usable = usable_targets(targets, n, *size, logits.shape[2], x)
        wanted, box_sum, distance_sum = [], x.sum() * 0, x.sum() * 0
        for image, target in enumerate(usable):
            assigned = self.assigner(boxes[image].detach(), chances[image], points, target)
            wanted.append(assigned.scores)
            (places,) = torch.nonzero(assigned.objects >= 0, as_tuple=True)
            goal = target.boxes[assigned.objects[places]]
            weight = assigned.scores[places].sum(dim=1)
            box_sum = box_sum + ((1 - complete_iou(boxes[image, places], goal)) * weight).sum()
            sides = encode_distances(goal, points[places], strides[places])
            spread = distribution_loss(bins[image, places], sides).mean(dim=1)
            distance_sum = distance_sum + (spread * weight).sum()
        goals = torch.stack(wanted)
        norm = goals.sum().clamp_min(1)
        terms = {
            "boxes": box_sum / norm,
            "classes": F.binary_cross_entropy_with_logits(logits, goals, reduction="sum") / norm,
            "distances": distance_sum / norm,
        }
        weights = (self.box_weight, self.class_weight, self.distance_weight)
        total = sum((w * term for w, term in zip(weights, terms.values())), x.sum() * 0) * n
        return Losses(total, terms)


def distribution_loss(bins: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of logits ... bins to the two bins around a distance ..., by nearness (DFL,
    arXiv 2006.04388); distances are within 0 and just under bins - 1."""
    below = wanted.floor()
    chances = bins.log_softmax(dim=-1)
    left = chances.gather(-1, below.long()[..., None])[..., 0]
    right = chances.gather(-1, below.long()[..., None] + 1)[..., 0]
    return -(left * (below + 1 - wanted) + right * (wanted - below))
