"""Concatenation, slices and selections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import IndexMap, Tape, is_constant, shape
from edgekit.plan.region import Region, Span, clip, hull, nothing_where

aten = torch.ops.aten


class Concatenation(IndexMap):
    """Along its own dimension each part is shifted; a part that the box does not meet is left out."""

    def parts(self, node: Node) -> tuple[list[Node], int, list[int]]:
        """The joined tensors, the dimension, and where each begins along it."""
        joined: Any = node.args[0]
        dim: Any = node.args[1] if len(node.args) > 1 else 0
        dim %= len(shape(node))
        offsets = [0]
        for part in joined:
            offsets.append(offsets[-1] + shape(part)[dim])
        return list(joined), dim, offsets[:-1]

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        found: dict[Node, Region] = {}
        parts, dim, offsets = self.parts(node)
        for part, offset in zip(parts, offsets, strict=True):
            if is_constant(part):
                continue
            size = shape(part)[dim]
            start, stop = region[dim][0] - offset, region[dim][1] - offset
            missed = np.asarray((stop <= 0) | (start >= size))
            if missed.all():
                continue
            box = (*region[:dim], clip((start, stop), size), *region[dim + 1 :])
            if missed.any():
                box = nothing_where(missed, box)
            found[part] = hull([found[part], box]) if part in found else box
        return found

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        parts, dim, offsets = self.parts(node)
        start, stop = region[dim]
        pieces = []
        for part, offset in zip(parts, offsets, strict=True):
            span = (max(int(start) - offset, 0), min(int(stop) - offset, shape(part)[dim]))
            if span[0] < span[1]:
                pieces.append(tape.operand(part, (*region[:dim], span, *region[dim + 1 :])))
        return pieces[0] if len(pieces) == 1 else tape.call(aten.cat.default, pieces, dim)


class Slice(IndexMap):
    """x[..., start:stop:step, ...]"""

    def geometry(self, node: Node) -> tuple[int, int, int]:
        """Dimension, first index, step."""
        source: Any = node.args[0]
        arguments: list[Any] = [*node.args[1:], *(0, None, None, 1)[len(node.args) - 1 :]]
        dim, start, _, step = arguments
        sizes = shape(source)
        dim %= len(sizes)
        first = start or 0
        if first < 0:
            first = max(0, first + sizes[dim])
        return dim, min(first, sizes[dim]), step

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        dim, first, step = self.geometry(node)
        start, stop = region[dim]
        span: Span = (first + start * step, first + (stop - 1) * step + 1)
        return {source: (*region[:dim], span, *region[dim + 1 :])}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        dim, _, step = self.geometry(node)
        x = tape.operand(source, needed)
        if step == 1:
            return x
        return tape.call(aten.slice.Tensor, x, dim, 0, tape.sizes(x)[dim], step)


class Select(IndexMap):
    """x[..., index, ...], which drops the dimension."""

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        dim: Any = node.args[1]
        index: Any = node.args[2]
        sizes = shape(source)
        dim %= len(sizes)
        index %= sizes[dim]
        return {source: (*region[:dim], (index, index + 1), *region[dim:])}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        dim: Any = node.args[1]
        return tape.call(aten.select.int, tape.operand(source, needed), dim % len(needed), 0)


JOINING: dict[object, IndexMap] = {
    aten.cat.default: Concatenation(),
    aten.slice.Tensor: Slice(),
    aten.select.int: Select(),
}
