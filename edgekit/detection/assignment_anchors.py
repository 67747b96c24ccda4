"""Which anchor learns which object, by overlap: SSD."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.detection.overlap import iou
from edgekit.detection.targets import Target

NONE = -1


def match_anchors(anchors: Tensor, target: Target, threshold: float = 0.5) -> Tensor:
    """For each anchor of A 4 (centre x, centre y, width, height) the object's index, or NONE.

    An anchor takes the object that it overlaps most, from `threshold` on. Every object also gets the
    anchor that overlaps it most, if any does; of two objects with one best anchor the first gets it.
    """
    if not len(target.boxes):
        return torch.full((len(anchors),), NONE, dtype=torch.int64, device=anchors.device)
    half = anchors[:, 2:] / 2
    corners = torch.cat([anchors[:, :2] - half, anchors[:, :2] + half], dim=1)
    overlaps = iou(corners[:, None], target.boxes[None])
    best, objects = overlaps.max(dim=1)
    objects = torch.where(best >= threshold, objects, NONE)
    most, places = overlaps.max(dim=0)
    for index in reversed(range(len(places))):
        if most[index] > 0:
            objects[places[index]] = index
    return objects
