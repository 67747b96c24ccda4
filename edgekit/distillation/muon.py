"""Muon: momentum whose matrices are made orthogonal before each step.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale of a step
is that of J. Liu et al., arXiv 2502.16982, section 2.2, so that learning rates of AdamW carry over.
torch.optim.Muon takes rank 2 only and iterates in bfloat16, which a CPU without that type emulates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

STEP_RMS = 0.2  # of a matrix's entries per unit of learning rate, as AdamW's are
COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of x, x³ and x⁵: steepest at zero, so that small singular values reach about 1 in five steps."""


class Muon(torch.optim.Optimizer):
    """For weights of dense layers, out × in × ...: all axes but the first count as one."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody here re-evaluates a loss in a step
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                mean = state["momentum"]
                mean.lerp_(gradient, 1 - group["momentum"])
                direction = orthogonal(gradient.lerp(mean, group["momentum"]).flatten(1))
                scale = STEP_RMS * max(direction.shape) ** 0.5
                weight.sub_(direction.view_as(weight), alpha=group["lr"] * scale)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly: every singular value comes to 0.68 to 1.14.

    Newton-Schulz: a polynomial in x xᵀ acts on the singular values alone.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def mixes_channels(parameter: nn.Parameter) -> bool:
    """Whether Muon suits it: not a bias or norm, nor a depthwise kernel, whose rows never meet."""
    return parameter.ndim >= 2 and parameter.shape[1] > 1
