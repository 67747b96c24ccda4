"""Parameters and multiply-accumulates of a recipe's network, without computing anything."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekit.recipe import Recipe
from edgekit.zoo.families import build_network


@dataclass(frozen=True)
class Cost:
    parameters: int
    macs: int
    """Of convolutions and matrix products for one call."""


def network_cost(recipe: Recipe, input_shape: tuple[int, ...]) -> Cost:
    with torch.device("meta"), torch.no_grad():
        network = build_network(recipe).eval()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(input_shape))
    return Cost(parameters, counter.get_total_flops() // 2)
