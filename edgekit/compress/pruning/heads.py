"""Heads of attention as atoms: the library counts the three thirds of a joint projection as channels of one tensor."""

from __future__ import annotations

from typing import Any

from torch_pruning.dependency.group import Group

from edgekit.compress.pruning.channels import ChannelGroup, Place
from edgekit.compress.pruning.graph import ChannelGraph
from edgekit.zoo.vision_transformer import Attention


def with_heads(groups: list[ChannelGroup], graph: ChannelGraph) -> list[ChannelGroup]:
    """The groups, with those of a joint projection of queries, keys and values replaced by its heads."""
    found = {
        f"{path}.qkv": module
        for path, module in graph.model.named_modules()
        if isinstance(module, Attention)
    }
    return [_heads(group, found[group.name]) if group.name in found else group for group in groups]


def _heads(group: ChannelGroup, attention: Attention) -> ChannelGroup:
    """An atom is a head: its channels of each third, and of what the last layer reads."""
    width, each = attention.proj.in_features, attention.head_width
    of_heads = [tuple(range(start, start + each)) for start in range(0, width, each)]
    thirds = tuple(
        tuple(third * width + c for third in range(3) for c in channels) for channels in of_heads
    )
    path = group.name.removesuffix("qkv")
    members = {
        Place(group.name, "makes", 0): thirds,
        Place(f"{path}proj", "reads", 0): tuple(of_heads),
    }
    return ChannelGroup(group.name, members, thirds, _traced(group.traced, attention))


def _traced(whole: Any, attention: Attention) -> Group:
    """The library's group, in which the last layer reads the third that holds values."""
    width = attention.proj.in_features
    made = Group()
    for item in whole:
        if item.dep.target.module in (attention.qkv, attention.proj):
            reads = item.dep.target.module is attention.proj
            made.add_dep(item.dep, list(range(width)) if reads else item.idxs)
            made[-1].root_idxs = [2 * width + c for c in range(width)] if reads else item.root_idxs
    return made
