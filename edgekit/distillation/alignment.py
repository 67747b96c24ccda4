"""Heads that bring a student's features to the shape of its teacher's (Turbo-VAED, facts of its code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError


@dataclass(frozen=True)
class Spread:
    """How much finer the teacher's grid is, and whether the first frame stays single in it."""

    time: int = 1
    space: int = 1
    drops_lead: bool = True

    @property
    def channels(self) -> int:
        """What of the channels goes into time and space."""
        return self.time * self.space**2


class AlignmentHead(nn.Module):
    """Two 1x1x1 convolutions, nothing between, then channels into time and space: N C T H W."""

    def __init__(self, channels_in: int, channels: int, spread: Spread) -> None:
        super().__init__()
        self.spread = spread
        inner = channels * spread.channels
        self.project = nn.Sequential(
            nn.Conv3d(channels_in, inner, 1),
            nn.Conv3d(inner, inner, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return spread_channels(self.project(features), self.spread)


def spread_channels(x: Tensor, spread: Spread) -> Tensor:
    """N (c·t·s·s) T H W to N c (T·t) (H·s) (W·s), in the order of LTX-Video's shuffle.

    For t = 1 that is a pixel shuffle of each frame.
    """
    t, s = spread.time, spread.space
    n, _, frames, height, width = x.shape
    x = x.reshape(n, -1, t, s, s, frames, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
    x = x.reshape(n, -1, frames * t, height * s, width * s)
    return x[:, :, t - 1 :] if spread.drops_lead else x


def head_between(point: str, student: torch.Size, teacher: torch.Size) -> AlignmentHead:
    """For features of these shapes, N C T H W. Raises UsageError if no head can bring one to the other."""
    (_, own, frames, height, width), (_, channels, *grid) = student, teacher
    for time in (1, 2, 4):
        for drops_lead in (True, False):
            for space in (1, 2, 4):
                grown = [frames * time - (time - 1) * drops_lead, height * space, width * space]
                if grown == grid:
                    return AlignmentHead(own, channels, Spread(time, space, drops_lead))
    raise UsageError(
        f"At '{point}' the student's features are {_listed(student)} and the teacher's {_listed(teacher)} "
        "(frames, height, width): no head makes the second of the first; align another point."
    )


def heads_between(
    points: tuple[str, ...], student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
) -> dict[str, nn.Module]:
    return {
        point: head_between(point, student[point].shape, teacher[point].shape) for point in points
    }


def _listed(shape: torch.Size) -> str:
    return "x".join(map(str, shape[2:]))
