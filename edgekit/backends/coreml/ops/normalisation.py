"""Normalisation; all statistics in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.activation import per_channel
from edgekit.backends.coreml.ops.registry import op


@op
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


@op
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    y = F.layer_norm(x, x.shape[2:], eps=epsilon)
    y = y if gamma is None else y * per_channel(gamma, x)
    return y if beta is None else y + per_channel(beta, x)


@op
def layer_norm(
    x: Tensor,
    axes: list[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """gamma and beta have the sizes of x along `axes`."""
    normalised = sorted(axis % x.ndim for axis in (range(x.ndim) if axes is None else axes))
    sizes = [x.shape[axis] for axis in normalised]
    if normalised[0] == x.ndim - len(normalised):
        return F.layer_norm(x, sizes, gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, normalised, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = [size if axis in normalised else 1 for axis, size in enumerate(x.shape)]
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


@op
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Over the last three axes together."""
    return x * torch.rsqrt(x.square().sum(dim=(-3, -2, -1), keepdim=True) + epsilon)


@op
def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    return F.local_response_norm(x, size, alpha, beta, k)
