"""max(x, bound), whose gradient still lets x rise where it lies below."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        passes = (x >= ctx.bound) | (gradient < 0)
        return passes * gradient, None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """The gradient passes where x >= bound, or where a step down it makes x greater.

    Without gradients this is one operator, which can be captured.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.clamp_min(bound)
    bounded: Tensor = _LowerBound.apply(x, bound)
    return bounded
