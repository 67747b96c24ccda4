"""Generalised divisive normalisation in its simplified form, GDN1 (Johnston et al., arXiv 1912.08771).

y_i = x_i / (beta_i + sum_j gamma_ij |x_j|); the inverse, IGDN1, multiplies. Training needs beta and gamma
as square roots with a lower bound (CompressAI's parametrisation); for a device they are folded to constants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.zoo.split.lower_bound import lower_bound

PEDESTAL = 2.0**-36
LEAST_BETA = 1e-6


def effective(stored: Tensor, least: float) -> Tensor:
    """The value that a stored square root stands for, at least about `least`."""
    bound: float = (least + PEDESTAL) ** 0.5
    return lower_bound(stored, bound) ** 2 - PEDESTAL


class GDN1(nn.Module):
    """N C H W to the same shape."""

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter((torch.ones(channels) + PEDESTAL).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(channels) + PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        beta, gamma = effective(self.beta, LEAST_BETA), effective(self.gamma, 0.0)
        norm = F.conv2d(x.abs(), gamma[:, :, None, None], beta)
        return x * norm if self.inverse else x / norm


class FoldedGDN1(nn.Module):
    """The same with constants: |x|, a 1×1 convolution, and a division or a product."""

    @torch.no_grad()
    def __init__(self, layer: GDN1) -> None:
        super().__init__()
        self.inverse = layer.inverse
        channels = len(layer.beta)
        self.norm = nn.Conv2d(channels, channels, 1).to(layer.beta.dtype)
        self.norm.weight.copy_(effective(layer.gamma, 0.0)[:, :, None, None])
        self.norm.bias.copy_(effective(layer.beta, LEAST_BETA))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm(x.abs())
        return x * norm if self.inverse else x / norm


def fold_gdn(module: nn.Module) -> nn.Module:
    """Put a FoldedGDN1 in the place of each GDN1 within the module, which is changed and returned."""
    if isinstance(module, GDN1):
        return FoldedGDN1(module)
    for name, child in module.named_children():
        module.add_module(name, fold_gdn(child))
    return module
