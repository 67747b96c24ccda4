"""Channels that no layer reads, since all weights which would are zeros: leaving them out changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import traced_groups
from edgekit.compress.pruning.removal import remove_channels
from edgekit.compress.pruning.soundness import read_parts
from edgekit.model import Model

TOLERANCE = 1e-4
"""Of the largest output: sums of fewer numbers round otherwise."""


def without_unread(model: Model) -> tuple[nn.Module, dict[str, int]]:
    """The network, or a copy without them, and how many atoms of which group went; one of each stays."""
    if not any(_has_zero_columns(module) for module in model.module.modules()):
        return model.module, {}
    groups = traced_groups(model, PruneOptions())[1]
    unread = {group.name: unread_atoms(model.module, group) for group in groups}
    gone = {name: atoms for name, atoms in unread.items() if atoms}
    if not gone:
        return model.module, {}
    network = remove_channels(copy.deepcopy(model.module), groups, gone)
    if not _is_same(network, model):  # statistics that no layer with numbers of its own takes
        return model.module, {}
    return network, {name: len(atoms) for name, atoms in gone.items()}


@torch.no_grad()
def _is_same(network: nn.Module, model: Model) -> bool:
    pairs = zip(
        tensors_of(network(*model.example_inputs)), tensors_of(model(*model.example_inputs))
    )
    return all(
        float((a - b).abs().max()) <= TOLERANCE * max(1.0, float(b.abs().max())) for a, b in pairs
    )


def unread_atoms(network: nn.Module, group: ChannelGroup) -> Sequence[int]:
    """None of a group that passes a norm over its channels, whose statistics they take part in."""
    modules = dict(network.named_modules())
    for place in group.members:
        if place.side == "passes" and _is_over_channels(modules.get(place.path)):
            return ()
    found = [atom for atom in range(group.atoms) if _is_unread(network, group, atom)]
    return found[: group.atoms - 1]


def _is_unread(network: nn.Module, group: ChannelGroup, atom: int) -> bool:
    return not any(
        part.count_nonzero()
        for place in group.readers
        for part in read_parts(network.get_submodule(place.path), group.members[place][atom])
    )


def _is_over_channels(module: nn.Module | None) -> bool:
    """None: a parameter of no layer."""
    plain = (nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd, nn.PReLU)
    return module is not None and not isinstance(module, plain)


def _has_zero_columns(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and not bool(module.weight.detach().any(0).all())
