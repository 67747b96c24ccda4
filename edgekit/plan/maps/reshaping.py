"""Reshapes, permutations and broadcasts, followed dimension by dimension.

A reshape is cut into the smallest groups of dimensions with equal products. In a group

    (n, m) -> (n·m)     [a, b)  from  [floor(a/m), ceil(b/m)) of n and all of m
    (n·m) -> (n, m)     rows [a, b)  from  [a·m, b·m)

so that pixel shuffles, window partitions and frames folded into the batch, however they are spelt,
can be tiled. A group that mixes more is needed whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import IndexMap, Tape, shape, with_full
from edgekit.plan.maps.windowed import cropped
from edgekit.plan.region import Region, Span, ceil_div

aten = torch.ops.aten
Group = tuple[list[int], list[int]]


def groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[Group]:
    """Dimensions (of the input, of the output) whose products are equal, as few as can be."""
    found: list[Group] = []
    i = j = 0
    while i < len(before) or j < len(after):
        ins, outs = [], []
        left = right = 1
        if i < len(before):
            ins.append(i)
            left *= before[i]
            i += 1
        if j < len(after):
            outs.append(j)
            right *= after[j]
            j += 1
        while left != right:
            if left < right:
                left *= before[i]
                ins.append(i)
                i += 1
            else:
                right *= after[j]
                outs.append(j)
                j += 1
        found.append((ins, outs))
    return found


class Reshape(IndexMap):
    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        before, after = shape(source), shape(node)
        box: list[Span] = [(0, size) for size in before]
        for ins, outs in groups(before, after):
            box_part = _group_needs(
                [before[dim] for dim in ins],
                [after[dim] for dim in outs],
                [region[dim] for dim in outs],
            )
            for dim, span in zip(ins, box_part, strict=True):
                box[dim] = span
        return {source: tuple(box)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        before, after = shape(source), shape(node)
        sizes, crops = [0] * len(after), {}
        for ins, outs in groups(before, after):
            spans = _group_gives(
                [before[dim] for dim in ins],
                [after[dim] for dim in outs],
                [needed[dim] for dim in ins],
            )
            for dim, (first, last) in zip(outs, spans, strict=True):
                sizes[dim] = last - first
                start, stop = (int(bound) for bound in region[dim])
                crops[dim] = (start - first, stop - first)
        x = tape.call(aten.reshape.default, tape.operand(source, needed), sizes)
        return cropped(tape, x, crops)


def _long(sizes: list[int]) -> list[int]:
    """Positions of dimensions longer than one."""
    return [index for index, size in enumerate(sizes) if size != 1]


def _group_needs(before: list[int], after: list[int], spans: list[Span]) -> list[Span]:
    full: list[Span] = [(0, size) for size in before]
    ins, outs = _long(before), _long(after)
    if not ins:
        return full
    if len(ins) == 1 and len(outs) == 1:
        full[ins[0]] = spans[outs[0]]
        return full
    if len(outs) == 1:  # merged: major dimension first
        minor = _product(before) // before[ins[0]]
        start, stop = spans[outs[0]]
        full[ins[0]] = (start // minor, ceil_div(stop, minor))
        return full
    if len(ins) == 1:  # split
        minor = _product(after) // after[outs[0]]
        start, stop = spans[outs[0]]
        full[ins[0]] = (start * minor, stop * minor)
        return full
    return full


def _group_gives(before: list[int], after: list[int], needed: list[Span]) -> list[tuple[int, int]]:
    """Output spans that reshaping the needed part gives."""
    gives = [(0, size) for size in after]
    ins, outs = _long(before), _long(after)
    if not ins:
        return gives
    if len(ins) == 1 and len(outs) == 1:
        gives[outs[0]] = (int(needed[ins[0]][0]), int(needed[ins[0]][1]))
    elif len(outs) == 1:
        minor = _product(before) // before[ins[0]]
        gives[outs[0]] = (int(needed[ins[0]][0]) * minor, int(needed[ins[0]][1]) * minor)
    elif len(ins) == 1:
        minor = _product(after) // after[outs[0]]
        gives[outs[0]] = (int(needed[ins[0]][0]) // minor, int(needed[ins[0]][1]) // minor)
    return gives


def _product(sizes: list[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


class Permutation(IndexMap):
    """permute and transpose."""

    def order(self, node: Node) -> list[int]:
        rank = len(shape(node))
        if node.target is aten.permute.default:
            dims: Any = node.args[1]
            return [dim % rank for dim in dims]
        if node.target is aten.t.default:
            return [1, 0] if rank == 2 else list(range(rank))
        one: Any = node.args[1]
        other: Any = node.args[2]
        order = list(range(rank))
        order[one % rank], order[other % rank] = other % rank, one % rank
        return order

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        box: list[Span] = [(0, 0)] * len(region)
        for position, dim in enumerate(self.order(node)):
            box[dim] = region[position]
        return {source: tuple(box)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(aten.permute.default, tape.operand(source, needed), self.order(node))


class Unsqueeze(IndexMap):
    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        dim: Any = node.args[1]
        dim %= len(region)
        return {source: (*region[:dim], *region[dim + 1 :])}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(node.target, tape.operand(source, needed), node.args[1])


class Squeeze(IndexMap):
    def dropped(self, node: Node) -> list[int]:
        source: Any = node.args[0]
        sizes = shape(source)
        dims: Any = node.args[1] if len(node.args) > 1 else list(range(len(sizes)))
        listed = dims if isinstance(dims, list | tuple) else [dims]
        return sorted(d % len(sizes) for d in listed if sizes[d % len(sizes)] == 1)

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        box = list(region)
        for dim in self.dropped(node):
            box.insert(dim, (0, 1))
        return {source: tuple(box)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(aten.squeeze.dims, tape.operand(source, needed), self.dropped(node))


class Expand(IndexMap):
    """Broadcast dimensions of size one."""

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        sizes = shape(source)
        lead = len(region) - len(sizes)
        box = tuple((0, 1) if size == 1 else region[lead + dim] for dim, size in enumerate(sizes))
        return {source: box}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        sizes = [int(stop) - int(start) for start, stop in region]
        return tape.call(node.target, tape.operand(source, needed), sizes)


class Repeat(IndexMap):
    """repeat and tile: whole along repeated dimensions, unless those have one element."""

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, self._repeated(node))

    def _repeated(self, node: Node) -> set[int]:
        counts: Any = node.args[1]
        return {dim for dim, count in enumerate(counts) if count != 1}

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        sizes = shape(source)
        lead = len(region) - len(sizes)
        repeated = self._repeated(node)
        box = tuple(
            (0, size) if lead + dim in repeated else region[lead + dim]
            for dim, size in enumerate(sizes)
        )
        return {source: box}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(node.target, tape.operand(source, needed), node.args[1])


RESHAPING: dict[object, IndexMap] = {
    **dict.fromkeys(
        (aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints,
         aten.unflatten.int),
        Reshape(),
    ),
    **dict.fromkeys((aten.permute.default, aten.transpose.int, aten.t.default), Permutation()),
    aten.unsqueeze.default: Unsqueeze(),
    **dict.fromkeys(
        (aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), Squeeze()
    ),
    aten.expand.default: Expand(),
    aten.repeat.default: Repeat(),
}  # fmt: skip
