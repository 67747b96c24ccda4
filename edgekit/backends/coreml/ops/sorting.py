"""Orderings. Equal values keep their order, which MIL leaves open."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op


@exact_op
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    return torch.argsort(x, dim=axis, descending=not ascending, stable=True)


@exact_op
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """Always sorted; k = -1 takes all."""
    values, indices = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    count = x.shape[axis] if k == -1 else k
    values, indices = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
    return (values, indices) if return_indices else values


@exact_op
def non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x)
