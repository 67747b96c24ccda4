"""Activations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.registry import exact_op, op


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A vector of C values, shaped to broadcast over N C *."""
    return parameter.reshape(-1, *[1] * (x.ndim - 2))


@exact_op
def relu(x: Tensor) -> Tensor:
    return F.relu(x)


@exact_op
def relu6(x: Tensor) -> Tensor:
    return F.relu6(x)


@exact_op
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0.0)


@op
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(F.leaky_relu(x, alpha), max=beta)


@op
def elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@op
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@op
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@op
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


@op
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, per_channel(alpha, x) * x)


@op
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


@op
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@op
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@op
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@op
def softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros(()))


@op
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return per_channel(alpha, x) * torch.logaddexp(per_channel(beta, x) * x, torch.zeros(()))


@op
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


@op
def softsign(x: Tensor) -> Tensor:
    return F.softsign(x)
