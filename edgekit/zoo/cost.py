"""Parameters and multiply-accumulates of a recipe's network, without computing anything."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.recipe import Recipe
from edgekit.zoo.families import build_network
from edgekit.zoo.square_deform import SquareDepthwise


@dataclass(frozen=True)
class Cost:
    parameters: int
    macs: int
    """Of convolutions and matrix products for one call."""


def network_cost(recipe: Recipe, input_shape: tuple[int, ...]) -> Cost:
    with torch.device("meta"):
        return cost_of(build_network(recipe).eval(), input_shape)


def cost_of(network: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Of a network on the meta device. The nine products per value of a deformable convolution,
    which is written with gathers, are added to what torch counts."""
    gathered: list[int] = []

    def count(_module: nn.Module, _given: object, made: Tensor) -> None:
        gathered.append(9 * made.numel())

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, SquareDepthwise)
    ]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(input_shape))
    for hook in hooks:
        hook.remove()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops() // 2 + sum(gathered))
