"""Tensors from numbers, shapes and positions."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op, op


@exact_op
def shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@exact_op
def fill(shape: list[int], value: float = 0.0) -> Tensor:
    return torch.full(shape, value)


@exact_op
def fill_like(ref_tensor: Tensor, value: float = 0.0) -> Tensor:
    return torch.full(ref_tensor.shape, value)


@op
def range_1d(end: float, start: float, step: float) -> Tensor:
    return torch.arange(start, end, step)


@exact_op
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: float = 1,
    off_value: float = 0,
) -> Tensor:
    """An index outside the vector gives only `off_value`."""
    axis %= indices.ndim + 1
    sizes = [one_hot_vector_size if i == axis else 1 for i in range(indices.ndim + 1)]
    hit = indices.unsqueeze(axis) == torch.arange(one_hot_vector_size).reshape(sizes)
    return torch.where(hit, on_value, off_value)


@exact_op
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Keep `lower` diagonals below and `upper` above the main one; negative keeps all."""
    below = torch.arange(x.shape[-2]).unsqueeze(1) - torch.arange(x.shape[-1])
    kept = ((below <= lower) | (lower < 0)) & ((-below <= upper) | (upper < 0))
    return torch.where(kept, x, torch.zeros((), dtype=x.dtype))


@op
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    x = x.flip(axis) if reverse else x
    y = x.cumsum(axis)
    y = y - x if exclusive else y
    return y.flip(axis) if reverse else y
