"""How many blocks of each layer go: the least distortion and power for the multiply-accumulates that may stay.

Layers are independent, so that at the best there is one slope, the price of a multiply-accumulate, at which each
layer by itself has the least of distortion + power + price x multiply-accumulates. It is searched by halving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.compress.blocks.curves import Curve, curves, power_weight
from edgekit.compress.blocks.grid import Block, block_sums
from edgekit.compress.blocks.options import BlockOptions, SecondOrder
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.layers import Layer
from edgekit.errors import UsageError

HALVINGS = 100
LANES = 16
"""Of LPViT's hardware: a block of a layer with `reads` inputs draws reads / 16."""

Going = Mapping[str, Tensor]
"""Blocks that go, counted along rows, by layer."""


def going_by_magnitude(layers: Sequence[Layer], options: BlockOptions) -> Going:
    """Of each layer the same share, by the mean square of a block's weights."""
    found = {}
    for layer in layers:
        weight = layer.module.get_parameter("weight").detach()
        means = (
            block_sums(weight.square(), options.block)
            / block_sums(torch.ones_like(weight), options.block)
        ).flatten()
        count = -int(-(1 - options.keep) * len(means) // 1)
        found[layer.path] = torch.argsort(means, stable=True)[:count]
    return found


def going_by_distortion(
    network: torch.nn.Module,
    layers: Sequence[Layer],
    data: Sequence[Batch],
    options: BlockOptions,
    by: SecondOrder,
) -> Going:
    """`network` is put to use."""
    found = curves(network, [layer.path for layer in layers], data, options.block)
    levels = chosen_levels(offers(layers, found, by, options.block), options.keep)
    return {path: found[path].order[: found[path].gone[level]] for path, level in levels.items()}


@dataclass(frozen=True)
class Offer:
    """Of one layer, by level."""

    macs: Tensor
    """That stay."""
    harm: Tensor
    """Distortion, and weighted power."""
    first: int
    """The level that has gone in any case."""


def offers(
    layers: Sequence[Layer], found: Mapping[str, Curve], by: SecondOrder, block: Block
) -> dict[str, Offer]:
    powers = {
        layer.path: (len(found[layer.path].order) - found[layer.path].gone) * layer.reads / LANES
        for layer in layers
    }
    weight = by.power * power_weight(found, powers)
    options = {}
    for layer in layers:
        curve = found[layer.path]
        first = int((curve.gone < by.least * len(curve.order)).sum())
        options[layer.path] = Offer(
            layer.macs * (1 - _shares(layer, curve, block)),
            curve.distortion + weight * powers[layer.path],
            first,
        )
    return options


def chosen_levels(offered: Mapping[str, Offer], keep: float) -> dict[str, int]:
    """The largest slope's choice that leaves at most the share `keep` of the multiply-accumulates.

    The price may be below nothing: power alone may ask for less than is to stay.
    """
    most = keep * sum(float(offer.macs[0]) for offer in offered.values())
    harm = max(float(offer.harm.max() - offer.harm.min()) for offer in offered.values())
    step = min(float(-offer.macs.diff().min()) for offer in offered.values())
    high = (harm or 1.0) / (step / len(next(iter(offered.values())).macs) ** 2)
    low = -high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        left = sum(float(offer.macs[level]) for offer, level in _at(offered, middle))
        low, high = (low, middle) if left <= most else (middle, high)
    return dict(zip(offered, (level for _, level in _at(offered, high))))


def _at(offered: Mapping[str, Offer], price: float) -> list[tuple[Offer, int]]:
    return [
        (offer, offer.first + int((offer.harm + price * offer.macs)[offer.first :].argmin()))
        for offer in offered.values()
    ]


def _shares(layer: Layer, curve: Curve, block: Block) -> Tensor:
    """Of the layer's weights that have gone at each level: blocks at its ends are smaller."""
    ones = torch.ones(layer.makes, layer.reads, dtype=torch.float64)
    sizes = block_sums(ones, block).flatten()[curve.order]
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))[curve.gone] / ones.numel()


def require_layers(layers: Sequence[Layer], name: str, block: Block) -> None:
    """Raises UsageError for a network without a layer to take part."""
    if not layers:
        raise UsageError(
            f"{name} has no linear layer of at least two blocks of {block[0]}x{block[1]} that runs on tokens; "
            "convolutions are pruned by channels."
        )
