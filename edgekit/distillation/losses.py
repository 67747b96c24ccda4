"""Losses: small functions of a batch and of what student and teacher gave for it.

Pictures are N C H W in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from edgekit.distillation.schedules import Constant, Schedule
from edgekit.distillation.taps import Batch, Outputs
from edgekit.errors import UsageError

Term = Callable[[Batch, Outputs, Outputs], Tensor]
"""Batch, student's outputs, teacher's outputs to a scalar: a mean over the batch, if a step is to be
the same however the batch is split."""
Error = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """One term of what a stage minimises: `weight` times `schedule` times `of`."""

    name: str
    of: Term
    weight: float = 1.0
    schedule: Schedule = field(default_factory=Constant)


def relative_feature_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error in units of the teacher's feature power: 1 is no better than zeros."""
    return F.mse_loss(student, teacher) / teacher.square().mean()


@dataclass(frozen=True)
class Match:
    """The error between a tap of the student and the teacher's tap of the same name."""

    tap: str
    error: Error = F.mse_loss

    def __call__(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        own, target = student[self.tap], teacher[self.tap]
        require_equal_shapes(own, target, f"the tap '{self.tap}'")
        return self.error(own, target)


@dataclass(frozen=True)
class SoftLabels:
    """Divergence of class probabilities, N C logits, softened by a temperature T, times T².

    G. Hinton et al., "Distilling the knowledge in a neural network", 2015.
    """

    temperature: float = 1.0

    def __call__(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        require_equal_shapes(student.output, teacher.output, "the output")
        own, target = (
            F.log_softmax(logits / self.temperature, dim=1)
            for logits in (student.output, teacher.output)
        )
        return F.kl_div(own, target, log_target=True, reduction="batchmean") * self.temperature**2


def require_equal_shapes(student: Tensor, teacher: Tensor, where: str) -> None:
    """Raises UsageError: broadcasting two shapes would train on nonsense."""
    if student.shape != teacher.shape:
        own, target = ("x".join(map(str, tensor.shape)) for tensor in (student, teacher))
        raise UsageError(
            f"At {where} the student has the shape {own} and the teacher {target}; give the student a "
            "projection for that tap, or tap another module."
        )


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
