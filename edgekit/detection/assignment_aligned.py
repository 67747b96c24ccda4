"""Which point learns which object, by score and overlap together (TOOD, arXiv 2108.07755)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.detection.overlap import complete_iou
from edgekit.detection.targets import Target

TINY = 1e-9


@dataclass(frozen=True)
class Assignment:
    """Of the points of one image."""

    objects: Tensor
    """A: index of the object, or -1."""
    scores: Tensor
    """A classes: what each point should say, 0 to 1."""


@dataclass(frozen=True)
class AlignedAssigner:
    points: int = 10
    """At most so many per object."""
    score_power: float = 0.5
    overlap_power: float = 6.0

    @torch.no_grad()
    def __call__(self, boxes: Tensor, scores: Tensor, points: Tensor, target: Target) -> Assignment:
        """Of predicted boxes A 4 and scores A classes at points A 2, all in pixels.

        A point is a candidate within an object's box. The alignment is score^a · overlap^b, where the
        overlap is the complete IoU, at least 0. A point of two objects goes to the one it overlaps more.
        """
        wanted = torch.zeros_like(scores)
        nobody = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
        if not len(target.boxes):
            return Assignment(nobody, wanted)
        is_inside = _inside(points, target.boxes)
        overlap = complete_iou(target.boxes[:, None], boxes[None]).clamp_min(0) * is_inside
        said = scores.t()[target.classes]
        alignment = said**self.score_power * overlap**self.overlap_power * is_inside
        chosen = _best(alignment, self.points) & is_inside
        rivals = torch.where(chosen, overlap, -1.0)
        best, objects = rivals.max(dim=0)
        objects = torch.where(best >= 0, objects, -1)
        kept = chosen & (objects[None] == torch.arange(len(chosen), device=points.device)[:, None])
        alignment, overlap = alignment * kept, overlap * kept
        # Each object's best point should say its overlap, the others in proportion.
        share = alignment / (alignment.amax(dim=1, keepdim=True) + TINY)
        value = (share * overlap.amax(dim=1, keepdim=True)).amax(dim=0)
        (places,) = torch.nonzero(objects >= 0, as_tuple=True)
        wanted[places, target.classes[objects[places]]] = value[places]
        return Assignment(objects, wanted)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """K A: whether a point is strictly within a box."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return ((points - low > TINY) & (high - points > TINY)).all(dim=2)


def _best(alignment: Tensor, count: int) -> Tensor:
    """K A: whether a point is among the best of its object."""
    places = alignment.topk(min(count, alignment.shape[1]), dim=1).indices
    return torch.zeros_like(alignment, dtype=torch.bool).scatter_(1, places, True)
