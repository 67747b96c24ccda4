"""Gathers and scatters. Negative indices count from the end."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op, op
from edgekit.backends.coreml.ops.shape import slice_by_index

SCATTER = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}


def wrapped(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def positions(x: Tensor) -> Tensor:
    """The flat position of every element, in the shape of x."""
    return torch.arange(x.numel()).reshape(x.shape)


def scatter_flat(data: Tensor, where: Tensor, updates: Tensor, mode: str) -> Tensor:
    flat, where, updates = data.flatten(), where.flatten(), updates.flatten()
    if mode == "update":
        return flat.scatter(0, where, updates).reshape(data.shape)
    if mode == "sub":
        updates = -updates
    elif mode == "div":
        updates = 1 / updates
    return flat.scatter_reduce(0, where, updates, SCATTER[mode]).reshape(data.shape)


@exact_op
def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    axis %= x.ndim
    if batch_dims:
        parts = zip(x, indices, strict=True)
        return torch.stack([gather(a, b, axis - 1, batch_dims - 1) for a, b in parts])
    picked = x.index_select(axis, wrapped(indices, x.shape[axis]).flatten())
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@exact_op
def gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    return x.gather(axis, wrapped(indices, x.shape[axis]))


@exact_op
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    if batch_dims:
        parts = zip(x, indices, strict=True)
        return torch.stack([gather_nd(a, b, batch_dims - 1) for a, b in parts])
    return x[indices.long().unbind(-1)]


@op
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    where = positions(data).index_select(axis, wrapped(indices, data.shape[axis]))
    return scatter_flat(data, where, updates, mode)


@op
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    where = positions(data).gather(axis, wrapped(indices, data.shape[axis]))
    return scatter_flat(data, where, updates, mode)


@op
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    where = positions(data)[indices.long().unbind(-1)]
    return scatter_flat(data, where, updates, mode)


@exact_op
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    where = slice_by_index(positions(x), begin, end, stride, begin_mask, end_mask, squeeze_mask)
    return scatter_flat(x, where, update, "update")
