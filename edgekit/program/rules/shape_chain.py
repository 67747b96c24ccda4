"""Collapse chains of view, permute, squeeze and clone, at rank 5 or less.

Every such chain only reorders digits: write each axis as a product of digit sizes, and a view
regroups digits while a permute reorders them. For a chain from shape S to shape S' with digits
d_1..d_n the result is

    view(S -> digits) . permute . view(digits -> S')

with runs of digits that stay neighbours merged first. So the decoupled pixel shuffle of Turbo-VAED
ends at rank 4, the coupled 8-D shuffle of LTX-Video at chains of rank-4 block swaps, and a fold of
frames followed by its inverse at nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
REGROUPING = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    aten.squeeze.default,
    aten.unsqueeze.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.alias.default,
}
REORDERING = {aten.permute.default, aten.transpose.int}
MAX_RANK = 5


class _Digit:
    """A factor of one axis; it may later be split into an outer and an inner part."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: tuple[_Digit, _Digit] | None = None

    def leaves(self) -> list[_Digit]:
        if self.parts is None:
            return [self]
        return self.parts[0].leaves() + self.parts[1].leaves()


@dataclass(frozen=True)
class Chain:
    source: Node
    end: Node
    source_order: list[_Digit]
    target_order: list[_Digit]
    links: int
    widest_rank: int


class CollapseShapeChains(Rule):
    name = "shape-chain"

    def match(self, node: Node, edit: GraphEditor) -> Chain | None:
        if not _is_shape_only(node) or all(_is_shape_only(user) for user in node.users):
            return None
        links = [node]
        while _is_shape_only(producer := argument(links[-1], 0)):
            links.append(producer)
        return _chain(links[::-1])

    def why_not(self, match: Chain) -> str | None:
        if not _plan(match) and any(user.op == "output" for user in match.end.users):
            return "an output must be a value of its own"
        if match.links <= len(_plan(match)) and match.widest_rank <= MAX_RANK:
            return "already minimal"
        return None

    def replace(self, match: Chain, edit: GraphEditor) -> Node:
        result = match.source
        for operator, sizes_or_order in _plan(match):
            result = edit.call(operator, result, sizes_or_order)
        return result


def _is_shape_only(node: Any) -> bool:
    if not isinstance(node, Node) or node.op != "call_function":
        return False
    return node.target in REGROUPING or node.target in REORDERING


def _chain(links: list[Node]) -> Chain | None:
    """Follow digits through `links`; None if a view cuts across digits (such as 6x4 to 8x3)."""
    source = links[0].args[0]
    assert isinstance(source, Node)
    if 0 in shape_of(source):
        return None
    roots = [[_Digit(size)] for size in shape_of(source)]
    axes = [list(axis) for axis in roots]
    for link, following in zip(links, [*links[1:], None], strict=True):
        if following is not None and {link.target, following.target} <= REGROUPING:
            continue  # of views in a row only the last counts
        if link.target in REORDERING:
            rank = len(axes)
            if link.target is aten.permute.default:
                order = [int(dim) % rank for dim in argument(link, 1)]
            else:
                order = list(range(rank))
                first, second = int(argument(link, 1)) % rank, int(argument(link, 2)) % rank
                order[first], order[second] = order[second], order[first]
            axes = [axes[dim] for dim in order]
        else:
            regrouped = _regroup([digit for axis in axes for digit in axis], shape_of(link))
            if regrouped is None:
                return None
            axes = regrouped
    return Chain(
        source,
        links[-1],
        [leaf for axis in roots for digit in axis for leaf in digit.leaves() if leaf.size != 1],
        [leaf for axis in axes for digit in axis for leaf in digit.leaves() if leaf.size != 1],
        len(links),
        max(len(shape_of(link)) for link in links),
    )


def _regroup(digits: list[_Digit], shape: tuple[int, ...]) -> list[list[_Digit]] | None:
    """Deal `digits` out to axes of `shape`, splitting digits where an axis ends inside one."""
    remaining = [leaf for digit in digits for leaf in digit.leaves() if leaf.size != 1]
    axes = []
    for size in shape:
        axis: list[_Digit] = []
        while size > 1:
            digit = remaining.pop(0)
            if size % digit.size == 0:
                size //= digit.size
            elif digit.size % size == 0:
                digit.parts = (_Digit(size), _Digit(digit.size // size))
                remaining.insert(0, digit.parts[1])
                digit, size = digit.parts[0], 1
            else:
                return None
            axis.append(digit)
        axes.append(axis)
    return axes


def _plan(chain: Chain) -> list[tuple[Any, list[int]]]:
    """The (operator, argument) calls that turn the source into the end of the chain."""
    blocks = _merged_blocks(chain.source_order, chain.target_order)
    sizes = [prod(digit.size for digit in block) for block in blocks]
    ranks = {id(block[0]): position for position, block in enumerate(blocks)}
    heads = [ranks[id(digit)] for digit in chain.target_order if id(digit) in ranks]
    calls: list[tuple[Any, list[int]]] = []
    shape = list(shape_of(chain.source))

    def view(to: list[int]) -> None:
        nonlocal shape
        if to != shape:
            calls.append((aten.reshape.default, to))
            shape = to

    if heads != sorted(heads):
        # A permute of the source's own axes needs no view before it.
        own = _own_axes_order(chain)
        if own is not None:
            calls.append((aten.permute.default, own))
            shape = [shape[dim] for dim in own]
        elif len(sizes) <= MAX_RANK:
            view(sizes)
            calls.append((aten.permute.default, heads))
            shape = [sizes[head] for head in heads]
        else:
            for swap, order in _block_swaps(sizes, heads):
                view(swap)
                calls.append((aten.permute.default, order))
                shape = [swap[dim] for dim in order]
    view(list(shape_of(chain.end)))
    return calls


def _own_axes_order(chain: Chain) -> list[int] | None:
    """The permutation of the source's axes that the chain is, if every axis moves as a whole."""
    shape = shape_of(chain.source)
    if len(shape) > MAX_RANK:
        return None
    digits = iter(chain.source_order)
    axes: list[list[_Digit]] = []
    for size in shape:
        axis: list[_Digit] = []
        while prod(digit.size for digit in axis) < size:
            axis.append(next(digits))
        axes.append(axis)
    heads = {id(axis[0]): index for index, axis in enumerate(axes) if axis}
    order: list[int] = []
    expected: list[_Digit] = []
    for digit in chain.target_order:
        if id(digit) in heads:
            order.append(heads[id(digit)])
            expected += axes[order[-1]]
    if [id(digit) for digit in expected] != [id(digit) for digit in chain.target_order]:
        return None
    units = [index for index, axis in enumerate(axes) if not axis]
    if units and len(shape) > MAX_RANK - 1:
        return None
    return units + order if len(units) + len(order) == len(shape) else None


def _merged_blocks(source: list[_Digit], target: list[_Digit]) -> list[list[_Digit]]:
    """Digits of `source`, grouped where the same neighbours stand in `target`."""
    position = {id(digit): index for index, digit in enumerate(target)}
    blocks: list[list[_Digit]] = []
    for digit in source:
        if blocks and position[id(digit)] == position[id(blocks[-1][-1])] + 1:
            blocks[-1].append(digit)
        else:
            blocks.append([digit])
    return blocks


def _block_swaps(sizes: list[int], heads: list[int]) -> list[tuple[list[int], list[int]]]:
    """The permutation `heads` of `sizes` as rank-4 views (P, A, B, S) with A and B swapped."""
    order = list(range(len(sizes)))
    swaps = []
    for position, wanted in enumerate(heads):
        found = order.index(wanted)
        if found == position:
            continue
        run = 1
        while position + run < len(heads) and order[found : found + run + 1] == heads[position : position + run + 1]:  # fmt: skip
            run += 1
        groups = [
            order[:position],
            order[position:found],
            order[found : found + run],
            order[found + run :],
        ]
        swaps.append(([prod(sizes[i] for i in group) for group in groups], [0, 2, 1, 3]))
        order = groups[0] + groups[2] + groups[1] + groups[3]
    return swaps
