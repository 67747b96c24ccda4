"""Operators that the search treats apart: means over the image, expansions, free successors."""

from __future__ import annotations

from math import inf, prod
from typing import Any

from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise, PooledToOne, Reduction
from edgekit.plan.memory import VIEWS, WRITTEN_OUT
from edgekit.plan.network import Network


def averaged(node: Node) -> Node | None:
    """The input of a mean over the image, which can be summed up tile by tile."""
    source: Any = node.args[0] if node.args else None
    mapping = map_of(node)
    if not isinstance(source, Node) or len(shape(source)) != 4:
        return None
    if isinstance(mapping, PooledToOne):
        return source if set(shape(node)[2:]) == {1} else None
    if isinstance(mapping, Reduction) and str(node.target) == "aten.mean.dim":
        rank = len(shape(source))
        return source if mapping.reduced(node) == {rank - 2, rank - 1} else None
    return None


def is_expansion(node: Node) -> bool:
    """A 1x1 convolution to at least twice as many channels."""
    if not str(node.target).startswith("aten.conv2d"):
        return False
    weight: Any = node.args[1]
    sizes = shape(weight)
    return set(sizes[2:]) == {1} and sizes[0] >= 2 * sizes[1]


def expansion_numbers(network: Network) -> dict[Node, float]:
    """Of every node: how many expansions must be computed again before a stream keeps none of it.

    Expansions count from the network's first on; what follows them element by element goes with
    them, and everything else is always kept (infinity).
    """
    numbers: dict[Node, float] = {}
    expansions = 0
    for node in network.nodes:
        expansions += is_expansion(node)
        sources = [source for source in node.all_input_nodes if source in network.position]
        if is_expansion(node):
            numbers[node] = expansions
        elif isinstance(map_of(node), Pointwise | ChannelParameters) and sources:
            numbers[node] = max(numbers[source] for source in sources)
        else:
            numbers[node] = inf
    return numbers


def kept_lines(network: Network, again: int) -> frozenset[Node]:
    """Nodes whose lines a stream keeps that computes so many expansions again."""
    return frozenset(node for node, number in expansion_numbers(network).items() if number > again)


def search_cuts(network: Network) -> list[Node]:
    """The cuts of a network without those that the next one replaces: see `_is_free`.

    Tiles that end after a free operator, or begin there, do what they would before it.
    """
    cuts = network.cuts()
    return [
        cut
        for cut, following in zip(cuts, [*cuts[1:], None], strict=True)
        if following is None or cut in network.inputs or not _is_free(network, cut, following)
    ]


def _is_free(network: Network, cut: Node, following: Node) -> bool:
    """Whether the next cut is the same tensor seen otherwise, or overwrites it in place."""
    if network.readers[cut] != (following,) or averaged(cut) is not None:
        return False
    before, after = shape(cut), shape(following)
    if prod(before) != prod(after) or before[-2:] != after[-2:]:
        return False
    if cut.meta["val"].dtype != following.meta["val"].dtype:
        return False
    in_place = isinstance(map_of(following), Pointwise) and following.target not in WRITTEN_OUT
    computed = [source for source in following.all_input_nodes if source in network.position]
    return computed == [cut] and (following.target in VIEWS or in_place)
