"""Losses of decoder distillation. Pictures are N C H W in [0, 1]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def relative_feature_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error in units of the teacher's feature power: 1 is no better than zeros."""
    return F.mse_loss(student, teacher) / teacher.square().mean()


def pyramid_l1(pictures: Tensor, target: Tensor, levels: int = 5) -> Tensor:
    """L1 at full resolution, plus the mean of L1 over `levels - 1` octaves of averages below it.

    Most of a young decoder's squared error is wrong local colour and brightness over 16 pixels and
    more; L1 at full resolution alone hardly sees it.
    """
    loss = F.l1_loss(pictures, target)
    for _ in range(levels - 1):
        pictures, target = F.avg_pool2d(pictures, 2), F.avg_pool2d(target, 2)
        loss = loss + F.l1_loss(pictures, target) / (levels - 1)
    return loss
