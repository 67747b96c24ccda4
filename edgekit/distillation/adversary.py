"""A critic that learns to tell the student's pictures from real ones, and what the student gets for it.

Each batch serves both: the student moves against the critic as it is, and the critic learns from the
same pictures. The term's weight follows the other losses, as in VQGAN (P. Esser et al., "Taming
transformers", 2021, section 3.1): the ratio of the two gradients' lengths at the student's last layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distillation.batch_statistics import share
from edgekit.distillation.network import Apprentice
from edgekit.distillation.optimisers import AdamW, Optimiser
from edgekit.distillation.taps import Batch, Outputs, nearest_path
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SHARDING = ("FSDPStrategy", "ModelParallelStrategy")
TERMS = ("adversarial", "critic")
"""The student's loss, and the critic's own."""


@dataclass(frozen=True)
class Adversary:
    critic: nn.Module
    """Pictures to scores of any shape, high for real ones. Each stage starts from a copy of it, of which
    those parameters learn that have requires_grad."""
    compare: Callable[[Batch, Outputs], tuple[Tensor, Tensor]]
    """What the student made of a batch, and what is real, as the critic takes them."""
    last_layer: str
    """Path of the student's parameter at which gradients are compared, such as "conv_out.weight"."""
    weight: float = 0.05
    """Beside the ratio of gradients."""
    largest_ratio: float = 1e4
    optimiser: Optimiser = field(default_factory=AdamW)
    """The critic's; the stage's schedule holds for it, too."""
    clip_norm: float | None = 1.0
    """Of the critic's gradient."""


class Charge(NamedTuple):
    """What the critic holds against the student's pictures of a batch."""

    loss: Tensor
    weight: Tensor


class Contest:
    """A stage's critic in training."""

    def __init__(self, adversary: Adversary, network: Apprentice, fabric: Fabric) -> None:
        """Raises UsageError for a last layer that is not there or does not move, and with FSDP."""
        self._adversary = adversary
        self._fabric = fabric
        known = dict(network.student.named_parameters())
        if adversary.last_layer not in known:
            raise UsageError(
                f"The adversary compares gradients at '{adversary.last_layer}', which is no parameter of the "
                f"student; {nearest_path(adversary.last_layer, list(known))}"
            )
        self._last = known[adversary.last_layer]
        if not self._last.requires_grad:
            raise UsageError(
                f"The adversary compares gradients at '{adversary.last_layer}', which the stage freezes."
            )
        if type(fabric.strategy).__name__ in SHARDING:
            raise UsageError(
                "A stage with an adversary cannot run under FSDP, which cuts the layer at which gradients "
                "are compared; use ddp."
            )
        self.critic = fabric.to_device(copy.deepcopy(adversary.critic)).train()
        self._learning = {n: p for n, p in self.critic.named_parameters() if p.requires_grad}
        if not self._learning:
            raise UsageError(
                "No parameter of the adversary's critic has requires_grad: it cannot learn."
            )
        if fabric.world_size > 1:  # each process may have drawn another
            share(self.critic)
            self.load(fabric.broadcast(self.state()))

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return self._adversary.optimiser.build(self._learning)

    def charge(self, batch: Batch, student: Outputs, others: Tensor) -> Charge:
        """The student's loss, -mean of the scores, and its weight beside the weighted sum of `others`."""
        made, _ = self._adversary.compare(batch, student)
        self._let_learn(False)  # the student's backward pass leaves no gradient here
        with self._fabric.autocast():
            loss = -self.critic(made).float().mean()
        self._let_learn(True)
        ratio = self._length(others) / (self._length(loss) + 1e-4)
        ratio = ratio.clamp(0, self._adversary.largest_ratio).detach()
        return Charge(loss, self._adversary.weight * ratio)

    def learn(self, batch: Batch, student: Outputs, parts: int) -> Tensor:
        """Add the gradient of the hinge loss over one of `parts` of a batch; returns that loss."""
        made, real = self._adversary.compare(batch, student)
        with self._fabric.autocast():
            on_real = self.critic(real.detach()).float()
            on_made = self.critic(made.detach()).float()
        loss = (F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean()) / 2
        (loss / parts).backward()
        return loss.detach()

    def settle_gradients(self) -> None:
        """The mean over processes, cut to its greatest length."""
        parameters = list(self._learning.values())
        if self._fabric.world_size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    mean = self._fabric.all_reduce(parameter.grad, reduce_op="mean")
                    parameter.grad.copy_(torch.as_tensor(mean))
        if self._adversary.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self._adversary.clip_norm)

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu() for name, value in self.critic.state_dict().items()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.critic.load_state_dict(dict(state))

    def _let_learn(self, learns: bool) -> None:
        for parameter in self._learning.values():
            parameter.requires_grad_(learns)

    def _length(self, loss: Tensor) -> Tensor:
        """Of the loss's gradient at the last layer, of the mean over processes."""
        found: tuple[Tensor | None, ...] = (None,)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, self._last, retain_graph=True, allow_unused=True)
        if found[0] is None:
            raise UsageError(
                f"The adversary compares gradients at '{self._adversary.last_layer}', on which not all of "
                "the losses depend; give the layer that makes the pictures."
            )
        gradient = found[0].float()
        if self._fabric.world_size > 1:
            gradient = torch.as_tensor(self._fabric.all_reduce(gradient, reduce_op="mean"))
        return gradient.norm()
