"""CenterNet's loss: focal on the heat map, absolute differences of sizes and offsets at centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.detection.anchors import CENTRE_STRIDE
from edgekit.detection.assignment_centres import centre_maps
from edgekit.detection.targets import Losses, Target, usable_targets


@dataclass(frozen=True)
class CentreLoss:
    heat_weight: float = 1.0
    size_weight: float = 0.1
    offset_weight: float = 1.0

    def __call__(
        self,
        raw: tuple[Tensor, Tensor, Tensor],
        targets: Sequence[Target],
        size: tuple[int, int],
    ) -> Losses:
        """`raw` is what CoDeNet.raw gives for images of `size` (height, width). Raises UsageError."""
        heat, sizes, offsets = (x.float() for x in raw)
        n, classes, rows, columns = heat.shape
        usable = usable_targets(targets, n, *size, classes, heat)
        maps = [centre_maps(target, classes, rows, columns, CENTRE_STRIDE) for target in usable]
        terms = {
            "heat": peak_focal(heat, torch.stack([one.heat for one in maps])),
            "sizes": _at_centres(sizes, [(one.cells, one.sizes) for one in maps]),
            "offsets": _at_centres(offsets, [(one.cells, one.offsets) for one in maps]),
        }
        weights = (self.heat_weight, self.size_weight, self.offset_weight)
        total = sum((w * term for w, term in zip(weights, terms.values())), heat.sum() * 0)
        return Losses(total, terms)


def peak_focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss that is mild around centres (alpha 2, beta 4), over the number of centres; the plain
    sum where there are none."""
    chance = torch.sigmoid(logits)
    is_centre = heat == 1
    hits = F.logsigmoid(logits) * (1 - chance) ** 2 * is_centre
    misses = F.logsigmoid(-logits) * chance**2 * (1 - heat) ** 4 * ~is_centre
    return -(hits.sum() + misses.sum()) / is_centre.sum().clamp_min(1)


def _at_centres(predicted: Tensor, goals: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean absolute difference of N 2 h w from each image's goals K 2 at its cells K 2."""
    total, count = predicted.sum() * 0, 0
    for image, (cells, goal) in enumerate(goals):
        made = predicted[image][:, cells[:, 0], cells[:, 1]].t()
        total = total + (made - goal).abs().sum()
        count += goal.numel()
    return total / (count + 1e-4)
