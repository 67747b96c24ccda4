"""Padding: constant, replicated or reflected edges; a tile pads where it touches a true border."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import IndexMap, Tape, shape
from edgekit.plan.maps.windowed import cropped
from edgekit.plan.region import Region, Span, chosen, clip, lower, upper

aten = torch.ops.aten


class Padding(IndexMap):
    def applies(self, node: Node) -> bool:
        return self.mode(node) in ("constant", "reflect", "replicate")  # not circular

    def amounts(self, node: Node) -> dict[int, tuple[int, int]]:
        """Elements before and after, per padded dimension; negative ones crop."""
        flat: Any = node.args[1]
        rank = len(shape(node))
        return {
            rank - 1 - index // 2: (int(flat[index]), int(flat[index + 1]))
            for index in range(0, len(flat), 2)
            if flat[index] or flat[index + 1]
        }

    def mode(self, node: Node) -> str:
        if node.target is aten.pad.default:
            return str(node.args[2]) if len(node.args) > 2 else "constant"
        return (
            str(node.target)
            .split(".")[1]
            .split("_")[0]
            .replace("replication", "replicate")
            .replace("reflection", "reflect")
        )

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        sizes = shape(source)
        box = list(region)
        for dim, (before, _) in self.amounts(node).items():
            start, stop = region[dim]
            span: Span = (start - before, stop - before)
            if self.mode(node) == "reflect":
                span = _with_reflected(span, sizes[dim])
            box[dim] = clip(span, sizes[dim])
        return {source: tuple(box)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        sizes = shape(source)
        flat = [0] * (2 * len(region))
        crops = {}
        for dim, (before, _) in self.amounts(node).items():
            start, stop = (int(bound) - before for bound in region[dim])
            first = int(needed[dim][0])
            lead, trail = max(0, -start), max(0, stop - sizes[dim])
            at = 2 * (len(region) - 1 - dim)
            flat[at], flat[at + 1] = lead, trail
            crops[dim] = (start - (first - lead), stop - (first - lead))
        while len(flat) > 2 and not any(flat[-2:]):
            flat = flat[:-2]
        x = tape.operand(source, needed)
        if any(flat):
            x = self._pad(node, x, flat, tape)
        return cropped(tape, x, crops)

    def _pad(self, node: Node, x: Any, flat: list[int], tape: Tape) -> Any:
        if node.target is aten.constant_pad_nd.default:
            return tape.call(node.target, x, flat, *node.args[2:])
        own: Any = node.args[1]
        flat = flat + [0] * (len(own) - len(flat))
        if node.target is aten.pad.default:
            return tape.call(node.target, x, flat, *node.args[2:], **node.kwargs)
        return tape.call(node.target, x, flat)


def _with_reflected(span: Span, size: int) -> Span:
    """A reflected edge of n elements reads [1, n + 1), or its mirror image at the other end."""
    start, stop = span
    first = chosen(stop > size, lower(start, 2 * size - 1 - stop), start)
    last = chosen(start < 0, upper(stop, 1 - start), stop)
    return first, last


PADDING: dict[object, IndexMap] = dict.fromkeys(
    (aten.pad.default, aten.constant_pad_nd.default, aten.reflection_pad1d.default,
     aten.reflection_pad2d.default, aten.reflection_pad3d.default, aten.replication_pad1d.default,
     aten.replication_pad2d.default, aten.replication_pad3d.default),
    Padding(),
)  # fmt: skip
