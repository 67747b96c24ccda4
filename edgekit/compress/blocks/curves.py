"""Rate and distortion of each layer, by a second-order estimate: LPViT (ECCV 2024, arXiv 2407.02068).

With g the gradient of the mean square of the output, and dw what leaving blocks out changes of a layer's weight,

    distortion  =  mean((dw g)²)  +  1/2 dw' (E[g g'] + 1e-7 I) dw

where E[g g'] is the empirical Fisher matrix over batches. Since dw is minus the weight in blocks that go and zero
elsewhere, dw'g is a sum over those blocks of each one's own w'g: the whole curve costs a cumulative sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.compress.blocks.grid import Block, block_sums
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.importance import Batch

LEVELS = 101
DAMPING = 1e-7
SMOOTHING = 0.5
"""Share of the level before, in each level of the curve: few blocks make steps of it."""


@dataclass(frozen=True)
class Curve:
    """Of one layer, at shares of its blocks that go: 0, 1 % ... 100 %."""

    order: Tensor
    """Blocks, counted along rows; those that go first come first."""
    gone: Tensor
    """How many have gone at each level."""
    distortion: Tensor
    """There; never less for more."""


class _Sums:
    """Of one layer, over batches."""

    def __init__(self) -> None:
        self.squares: list[Tensor] = []
        """Sums of (w g)² by block."""
        self.signed: list[Tensor] = []
        """Sums of w g by block."""


def curves(
    network: nn.Module, paths: Sequence[str], data: Sequence[Batch], block: Block
) -> dict[str, Curve]:
    """`network` is put to use: the weights at `paths` take gradients."""
    weights = {path: network.get_submodule(path).get_parameter("weight") for path in paths}
    network.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True)
    sums = {path: _Sums() for path in paths}
    for batch in data:
        network.zero_grad()
        with torch.enable_grad():
            squares = [made.square().mean() for made in tensors_of(network(*batch))]
            torch.stack(squares).sum().backward()  # type: ignore[no-untyped-call]
        for path, weight in weights.items():
            assert weight.grad is not None
            changed = (weight.detach() * weight.grad).double()
            sums[path].squares.append(block_sums(changed.square(), block).flatten())
            sums[path].signed.append(block_sums(changed, block).flatten())
    network.zero_grad()
    return {path: _curve(weights[path].detach(), sums[path], block) for path in paths}


def _curve(weight: Tensor, sums: _Sums, block: Block) -> Curve:
    squares, signed = torch.stack(sums.squares).mean(0), torch.stack(sums.signed)
    sizes = block_sums(weight.double().square(), block).flatten()
    order = torch.argsort(squares, stable=True)
    gone = (torch.linspace(0, 1, LEVELS) * len(order)).round().long()
    first = _summed(squares[order]) / weight.numel()
    fisher = _summed(signed[:, order]).square().mean(0)
    whole = first + (fisher + DAMPING * _summed(sizes[order])) / 2
    return Curve(order, gone, _smoothed(whole.cummax(0).values[gone]))


def _summed(values: Tensor) -> Tensor:
    """Along the last axis, from none to all."""
    return nn.functional.pad(values.cumsum(-1), (1, 0))


def _smoothed(values: Tensor) -> Tensor:
    found = [values[0]]
    for value in values[1:]:
        found.append(SMOOTHING * found[-1] + (1 - SMOOTHING) * value)
    return torch.stack(found)


def power_weight(found: Mapping[str, Curve], powers: Mapping[str, Tensor]) -> float:
    """At which power is as steep as distortion: the ratio of the means of the layers' steepest steps."""
    steepest = [float(curve.distortion.diff().max()) for curve in found.values()]
    draws = [float(powers[path].diff().abs().max()) for path in found]
    return sum(steepest) / max(sum(draws), 1e-30)
