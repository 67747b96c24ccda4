"""Affine quantisation of activations; weights are decompressed while loading."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op, op


def along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A scalar as it is; a vector shaped to broadcast along `axis` of x."""
    if parameter.ndim == 0 or axis is None:
        return parameter
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


@exact_op
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    limits = torch.iinfo(torch.int8 if output_dtype == "int8" else torch.uint8)
    y = torch.round(input / along(scale, input, axis))
    y = y if zero_point is None else y + along(zero_point, input, axis)
    return torch.clamp(y, limits.min, limits.max).to(torch.int32)


@op
def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    y = input if zero_point is None else input - along(zero_point, input, axis)
    return y * along(scale, input, axis)
