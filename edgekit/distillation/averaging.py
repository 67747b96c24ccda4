"""The exponential moving average of weights (EMA), and of the statistics that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgekit.distillation.sharding import local, shard_like, whole
from edgekit.errors import UsageError


def statistics(network: nn.Module) -> dict[str, Tensor]:
    """Floating buffers by name, such as BatchNorm's moving means and variances.

    Averaged weights need the average of these: with those of the latest weights, a detector that finds a
    quarter of its boxes found none.
    """
    return {name: value for name, value in network.named_buffers() if value.is_floating_point()}


class Average:
    """Averages of `values`, in which what they began at is soon forgotten.

    The decay after `step` steps is at most (1 + step) / (10 + step), as in TensorFlow's
    ExponentialMovingAverage with `num_updates`. With 0.999 from the first step on, a detector's average
    still had 30 % of BatchNorm's initial variances after 1200 steps: they had been 1, and were a thirtieth.
    """

    @torch.no_grad()
    def __init__(self, values: Mapping[str, Tensor], decay: float) -> None:
        self._names = list(values)
        self._decay = decay
        # A half-precision average would not move: its steps are a thousandth of its value.
        self._means = [value.detach().float().clone() for value in values.values()]
        self._own = [local(mean) for mean in self._means]
        self._values = [local(value) for value in values.values()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, [value.float() for value in self._values], 1 - decay)

    @torch.no_grad()
    def settle(self) -> None:
        """The averages become the values."""
        for mean, value in zip(self._own, self._values):
            value.copy_(mean)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averages within the block."""
        kept = [value.clone() for value in self._values]
        self.settle()
        try:
            yield
        finally:
            for value, own in zip(self._values, kept):
                value.copy_(own)

    def state(self) -> dict[str, Tensor]:
        return {name: whole(mean) for name, mean in zip(self._names, self._means)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises UsageError for a state that lacks an average, as of a run that another version began."""
        missing = [name for name in self._names if name not in state]
        if missing:
            raise UsageError(
                f"The checkpoint has averages of {len(state)} tensors, and none of '{missing[0]}' and "
                f"{len(missing) - 1} more: another version of edgekit wrote it. Begin another run."
            )
        for name, mean, own in zip(self._names, self._means, self._own):
            own.copy_(local(shard_like(state[name], mean)))
