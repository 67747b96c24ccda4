"""Matrix products and attention: batch dimensions and rows stand apart, the rest is needed whole."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import (
    IndexMap,
    Tape,
    has_constant_parameters,
    hulls,
    shape,
    with_full,
    with_parameters,
)
from edgekit.plan.region import Region, whole

aten = torch.ops.aten


class Linear(IndexMap):
    """x @ weight.T + bias over the last dimension."""

    def applies(self, node: Node) -> bool:
        return has_constant_parameters(node)

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {len(region) - 1})

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        return {source: (*region[:-1], (0, shape(source)[-1]))}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        (needed,) = self.needs(node, region).values()
        return with_parameters(node, needed, tape)


class Product(IndexMap):
    """matmul, bmm: rows of the left side, all of the right side's matrix."""

    def applies(self, node: Node) -> bool:
        left: Any = node.args[0]
        right: Any = node.args[1]
        return len(shape(left)) == len(shape(node)) >= len(shape(right)) >= 2

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {len(region) - 1})

    def boxes(self, node: Node, region: Region) -> list[tuple[Node, Region]]:
        left: Any = node.args[0]
        right: Any = node.args[1]
        found = []
        for source, rows in ((left, region[-2]), (right, None)):
            sizes = shape(source)
            lead = len(region) - len(sizes)
            batch = tuple(
                (0, 1) if size == 1 else region[lead + dim] for dim, size in enumerate(sizes[:-2])
            )
            found.append((source, (*batch, rows or (0, sizes[-2]), (0, sizes[-1]))))
        return found

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        return hulls(self.boxes(node, region))

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        return tape.call(
            node.target, *(tape.operand(source, box) for source, box in self.boxes(node, region))
        )


class Attention(IndexMap):
    """softmax(q kᵀ) v: batch and heads stand apart; queries, keys and values are needed whole."""

    def applies(self, node: Node) -> bool:
        heads = {shape(source)[:-2] for source in node.args[:3] if isinstance(source, Node)}
        return len(heads) == 1  # not grouped queries

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {len(region) - 2, len(region) - 1})

    def boxes(self, node: Node, region: Region) -> list[tuple[Node, Region]]:
        found = []
        for source in node.args[:4]:
            if isinstance(source, Node):
                sizes = shape(source)
                lead = len(region) - len(sizes)
                batch = tuple(
                    (0, 1) if size == 1 else region[lead + dim]
                    for dim, size in enumerate(sizes[:-2])
                )
                found.append((source, (*batch, *whole(sizes)[-2:])))
        return found

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        return hulls(self.boxes(node, region))

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        boxes = iter(self.boxes(node, region))
        arguments = [
            tape.operand(*next(boxes)) if isinstance(value, Node) else value for value in node.args
        ]
        return tape.call(node.target, *arguments, **node.kwargs)


MATRIX: dict[object, IndexMap] = {
    aten.linear.default: Linear(),
    **dict.fromkeys((aten.matmul.default, aten.bmm.default), Product()),
    aten.scaled_dot_product_attention.default: Attention(),
}
