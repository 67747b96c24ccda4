"""What a detector is trained towards: the boxes of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.errors import UsageError


@dataclass(frozen=True)
class Target:
    """The objects of one image; none is fine."""

    boxes: Tensor
    """K 4 floats: x1 y1 x2 y2 in pixels of the network's input."""
    classes: Tensor
    """K whole numbers from 0 on."""

    def usable(self, height: int, width: int, smallest: float = 1.0) -> Target:
        """Boxes cut to the image, without those that then have a side under `smallest` pixels or are
        not finite."""
        boxes = self.boxes.reshape(-1, 4)
        is_finite = torch.isfinite(boxes).all(dim=1)
        limit = boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(boxes.nan_to_num().clamp_min(0), limit)
        is_large = ((boxes[:, 2:] - boxes[:, :2]) >= smallest).all(dim=1)
        kept = is_finite & is_large
        return Target(boxes[kept], self.classes.reshape(-1)[kept])


@dataclass(frozen=True)
class Losses:
    """Numbers of one batch, with gradients."""

    total: Tensor
    terms: dict[str, Tensor]
    """The total is their weighted sum; each here is without its weight."""


def usable_targets(
    targets: Sequence[Target], batch: int, height: int, width: int, classes: int, like: Tensor
) -> list[Target]:
    """One usable target per image, on the device of `like` in its float type.

    Raises UsageError for another number of targets than of images, for boxes and classes that do not
    pair, and for a class that the network does not have.
    """
    if len(targets) != batch:
        raise UsageError(f"There are {batch} images in the batch and {len(targets)} targets.")
    usable = []
    for target in targets:
        if target.boxes.numel() != 4 * target.classes.numel():
            raise UsageError(
                f"A target has boxes of shape {tuple(target.boxes.shape)} for "
                f"{target.classes.numel()} classes; it needs four numbers for each."
            )
        if (
            target.classes.numel()
            and not 0 <= int(target.classes.min()) <= int(target.classes.max()) < classes
        ):
            raise UsageError(
                f"A target has the classes {int(target.classes.min())} to "
                f"{int(target.classes.max())}, and the network has 0 to {classes - 1}."
            )
        moved = Target(target.boxes.to(like), target.classes.to(like.device, torch.int64))
        usable.append(moved.usable(height, width))
    return usable
