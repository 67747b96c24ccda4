"""Reductions; `axes` None means all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op, register

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def over_axes(reduce: Reduce) -> Callable[[Tensor, list[int] | None, bool], Tensor]:
    def compute(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
        return reduce(x, list(range(x.ndim)) if axes is None else axes, keep_dims)

    return compute


def mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return (x if x.is_floating_point() else x.double()).mean(axes, keep)


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keep)
    return x


ROUNDED: dict[str, Reduce] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_mean": mean,
    "reduce_prod": product,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}
EXACT: dict[str, Reduce] = {"reduce_max": torch.amax, "reduce_min": torch.amin}

for name, reduce in ROUNDED.items():
    register(name, over_axes(reduce))
for name, reduce in EXACT.items():
    register(name, over_axes(reduce), exact=True)


@exact_op
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The first of equal values; MIL leaves ties open."""
    return torch.argmax(x, axis, keep_dims)


@exact_op
def reduce_argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return torch.argmin(x, axis, keep_dims)
