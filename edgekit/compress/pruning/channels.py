"""Groups of channels that can be left out, and what each of a group's channels is in every layer.

A group's channels come in atoms, which go or stay as one: a channel as a rule; the r² channels before a
pixel shuffle; one channel of each block of a grouped convolution or GroupNorm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from torch import nn

from edgekit.compress.pruning.graph import WEIGHTED, ChannelGraph, ShuffleStep

Side = Literal["makes", "reads", "passes"]
"""A layer makes channels, reads them, or has numbers for each one that passes (norms, depthwise filters)."""


class Place(NamedTuple):
    """One axis of a layer's numbers."""

    path: str
    """Of a module, or of a parameter that no known layer holds."""
    side: Side
    axis: int
    """Of a lone parameter; 0 for a module, which knows its own axes."""


@dataclass(frozen=True)
class ChannelGroup:
    name: str
    """Path of the first layer that makes its channels, with a number where that makes several groups'."""
    members: Mapping[Place, tuple[tuple[int, ...], ...]]
    """The channels that each atom is there."""
    roots: tuple[tuple[int, ...], ...] = field(repr=False)
    """The channels that each atom is in `traced`."""
    traced: Any = field(repr=False, compare=False)
    """The library's group of the network that was traced."""

    @cached_property
    def atoms(self) -> int:
        return len(next(iter(self.members.values())))

    @cached_property
    def makers(self) -> tuple[str, ...]:
        return tuple(place.path for place in self.members if place.side == "makes")

    @cached_property
    def readers(self) -> tuple[Place, ...]:
        return tuple(place for place in self.members if place.side == "reads")

    def least_step(self, round_to: int) -> int:
        """Atoms by which the width may change so that every layer's channels change by multiples of `round_to`."""
        step = 1
        for place, channels in self.members.items():
            if place.side != "passes":
                while step * len(channels[0]) % round_to:
                    step += 1
        return step


def channel_groups(graph: ChannelGraph) -> list[ChannelGroup]:
    """In the order of the network's modules; a channel is in one group at most."""
    modules = dict(graph.model.named_modules())
    found = [group for whole in graph.get_all_groups() for group in _divided(whole, modules, graph)]
    order = {name: number for number, name in enumerate(modules)}
    found.sort(key=lambda group: order.get(group.name, len(order)))
    taken: dict[str, int] = defaultdict(int)
    for number, group in enumerate(found):
        taken[group.name] += 1
        if taken[group.name] > 1:
            found[number] = replace(group, name=f"{group.name} ({taken[group.name]})")
    return found


class _Reach(NamedTuple):
    """Which channels of a place the roots are."""

    place: Place
    channels: Mapping[int, set[int]]
    """By root."""


def _divided(
    whole: Any, modules: Mapping[str, nn.Module], graph: ChannelGraph
) -> Iterator[ChannelGroup]:
    """The library's group in parts whose atoms are the same layers' channels: behind a concatenation, the rest
    of a sum may hold channels of several makers."""
    reaches = [reach for item in whole for reach in [_reach(item, graph)] if reach is not None]
    joined = _Joined(range(len(whole[0].idxs)))
    for reach in reaches:
        _join(joined, reach, modules)
    _join_shuffled(joined, whole)
    parts: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for roots in joined.sets():
        counts = tuple(
            len({channel for root in roots for channel in reach.channels.get(root, ())})
            for reach in reaches
        )
        parts[counts].append(roots)
    for counts, atoms in parts.items():
        members: dict[Place, tuple[tuple[int, ...], ...]] = {}
        for reach, count in zip(reaches, counts):
            if count:
                members[reach.place] = tuple(
                    tuple(sorted({c for root in atom for c in reach.channels.get(root, ())}))
                    for atom in atoms
                )
        makers = [place.path for place in members if place.side == "makes"]
        if makers:
            first = min(makers, key=list(modules).index)
            yield ChannelGroup(first, members, tuple(map(tuple, atoms)), whole)


def _reach(item: Any, graph: ChannelGraph) -> _Reach | None:
    """None for steps without numbers, such as sums."""
    node = item.dep.target
    module = node.module
    if isinstance(module, nn.Parameter):
        place = Place(graph.name_of(module), "passes", node.pruning_dim)
    elif graph.path_of(module) and _has_numbers(module):
        place = Place(graph.path_of(module), _side(module, item.dep, graph), 0)
    else:
        return None
    channels: dict[int, set[int]] = defaultdict(set)
    for channel, root in zip(item.idxs, item.root_idxs, strict=True):
        channels[root].add(channel)
    return _Reach(place, channels)


def _has_numbers(module: nn.Module) -> bool:
    tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(tensor.ndim for tensor in tensors)


def _side(module: nn.Module, dependency: Any, graph: ChannelGraph) -> Side:
    if not isinstance(module, WEIGHTED) or is_depthwise(module):
        return "passes"
    return "makes" if graph.is_out_channel_pruning_fn(dependency.handler) else "reads"


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < module.groups == module.out_channels


class _Joined:
    """Sets of numbers that grow together."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._parent = {number: number for number in numbers}

    def first(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, numbers: Iterable[int]) -> None:
        first, *others = sorted({self.first(number) for number in numbers})
        for other in others:
            self._parent[other] = first

    def sets(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for number in self._parent:
            found[self.first(number)].append(number)
        return list(found.values())


def _join(joined: _Joined, reach: _Reach, modules: Mapping[str, nn.Module]) -> None:
    """Roots that are one channel here, or stand at one position of the blocks of a grouped layer."""
    module = modules.get(reach.place.path)
    block = 0 if module is None else _block(module, reach.place.side)
    together: dict[int, list[int]] = defaultdict(list)
    for root, channels in reach.channels.items():
        for channel in channels:
            together[channel % block if block else channel].append(root)
    for roots in together.values():
        joined.join(roots)


def _join_shuffled(joined: _Joined, whole: Any) -> None:
    """Roots of the channels that a pixel shuffle makes one of."""
    ratio_behind = {
        source: item.dep.target.module.ratio
        for item in whole
        if isinstance(item.dep.target.module, ShuffleStep)
        for source in item.dep.target.inputs
    }
    for item in whole:
        if (ratio := ratio_behind.get(item.dep.target)) is not None:
            together: dict[int, list[int]] = defaultdict(list)
            for channel, root in zip(item.idxs, item.root_idxs, strict=True):
                together[channel // ratio].append(root)
            for roots in together.values():
                joined.join(roots)


def _block(module: nn.Module, side: Side) -> int:
    """Channels of one block of a grouped layer; 0 where there are no blocks."""
    if isinstance(module, nn.GroupNorm):
        return module.num_channels // module.num_groups if module.num_groups > 1 else 0
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        if is_depthwise(module):
            return 0
        channels = module.in_channels if side == "reads" else module.out_channels
        return channels // module.groups
    return 0
