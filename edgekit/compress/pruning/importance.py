"""Scores of channels: what is lowest goes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.options import Importance, Loss

Batch = tuple[Tensor, ...]
PROJECTIONS = 8
"""Random ones of the output per batch, for its sensitivity in all directions."""


def scores(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    kind: Importance,
    data: Sequence[Batch],
    loss: Loss | None,
) -> dict[str, Tensor]:
    """Of each group's atoms, float64. `network` is the one that was traced; its parameters take gradients.

    Scores of `output` are comparable between groups: an estimate of the squared change of the output.
    """
    torch.manual_seed(0)
    if kind == "output":
        return _output_scores(network, groups, data, loss)
    if kind == "taylor":
        network.zero_grad()
        for batch in data:
            _objective(network, batch, loss).backward()  # type: ignore[no-untyped-call]
    scorer: Any = {
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "fpgm": tp.importance.FPGMImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "random": tp.importance.RandomImportance,
    }[kind]()
    found = {}
    for group in groups:
        of_roots = scorer(group.traced).double()
        found[group.name] = torch.stack([of_roots[list(atom)].sum() for atom in group.roots])
    network.zero_grad()
    return found


def _objective(network: nn.Module, batch: Batch, loss: Loss | None) -> Tensor:
    """The loss; without one a random projection of the output, each tensor at the same size."""
    if loss is not None:
        return loss(network(batch[0]), batch)
    total = torch.zeros(())
    for made in tensors_of(network(*batch)):
        signs = torch.randint(0, 2, made.shape).to(made) * 2 - 1
        size = made.detach().square().mean().sqrt().clamp_min(1e-12) * made.numel() ** 0.5
        total = total + (made * signs).sum() / size
    return total


def _output_scores(
    network: nn.Module, groups: Sequence[ChannelGroup], data: Sequence[Batch], loss: Loss | None
) -> dict[str, Tensor]:
    """Mean square of what changes, to first order, when all that reads an atom reads zeros.

    That is the sum of weight times gradient over those weights; for a random projection of the output with signs,
    its mean square is that of the output's change itself.
    """
    found = {group.name: torch.zeros(group.atoms, dtype=torch.float64) for group in groups}
    draws = 1 if loss is not None else PROJECTIONS
    for batch in data:
        for _ in range(draws):
            network.zero_grad()
            _objective(network, batch, loss).backward()  # type: ignore[no-untyped-call]
            for group in groups:
                found[group.name] += _first_order(network, group).square() / (draws * len(data))
    network.zero_grad()
    return found


def _first_order(network: nn.Module, group: ChannelGroup) -> Tensor:
    change = torch.zeros(group.atoms, dtype=torch.float64)
    for place in group.readers:
        module = network.get_submodule(place.path)
        weight = module.get_parameter("weight")
        if weight.grad is None:  # nothing of the objective depends on it
            continue
        each = _by_input(module, (weight.detach() * weight.grad).double())
        change += each[torch.tensor(group.members[place])].sum(1)
    return change


def _by_input(module: nn.Module, products: Tensor) -> Tensor:
    """Sums of numbers that stand like the module's weights, by its input channel."""
    if getattr(module, "transposed", False):
        return products.flatten(1).sum(1)
    blocks = getattr(module, "groups", 1)
    rows = products.flatten(2).sum(2) if products.ndim > 2 else products
    return rows.view(blocks, -1, rows.shape[1]).sum(1).flatten()
