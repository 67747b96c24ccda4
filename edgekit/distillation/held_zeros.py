"""Zeros of linear layers' weights that stay zeros while the others train."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize


class _Kept(nn.Module):
    """Of a weight, what may move."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.kept: Tensor
        self.register_buffer("kept", (weight.detach() != 0).to(weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


def hold_zeros(network: nn.Module) -> None:
    """In place: until `release`, weights have other names in the state dict."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and not bool(module.weight.detach().all()):
            parametrize.register_parametrization(module, "weight", _Kept(module.weight))


def release(network: nn.Module) -> None:
    """In place: weights are parameters again, with zeros where they were."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
