"""Channels out of a network: its numbers are cut, by the library's functions for each kind of layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.pruner.function import BasePruningFunc, PrunerBox

from edgekit.compress.pruning.channels import ChannelGroup, Place
from edgekit.compress.pruning.graph import FirstAxisPruner
from edgekit.zoo.square_deform import SquareDepthwise

Removed = Mapping[str, Iterable[int]]
"""Atoms by name of their group."""


def remove_channels(
    network: nn.Module, groups: Iterable[ChannelGroup], removed: Removed
) -> nn.Module:
    """In place; parameters keep whether they train. Returns the network."""
    trains = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    going: dict[Place, set[int]] = defaultdict(set)
    for group in groups:
        for atom in removed.get(group.name, ()):
            for place, channels in group.members.items():
                going[place].update(channels[atom])
    modules = dict(network.named_modules())
    for place, indices in going.items():
        _cut(network, modules.get(place.path), place, sorted(indices))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains[name])
    return network


def _cut(network: nn.Module, module: nn.Module | None, place: Place, indices: list[int]) -> None:
    if module is None:
        path, _, name = place.path.rpartition(".")
        holder = network.get_submodule(path)
        old = holder.get_parameter(name)
        kept = [index for index in range(old.shape[place.axis]) if index not in set(indices)]
        new = torch.index_select(old.detach(), place.axis, torch.tensor(kept))
        setattr(holder, name, nn.Parameter(new))
    elif place.side == "reads":
        _pruner(module).prune_in_channels(module, indices)
    else:
        _pruner(module).prune_out_channels(module, indices)


def _pruner(module: nn.Module) -> BasePruningFunc:
    """A fresh one: the library's shared ones keep the axis of whichever layer they saw last."""
    if isinstance(module, SquareDepthwise):
        return FirstAxisPruner()
    return type(PrunerBox[tp.ops.module2type(module)])()
