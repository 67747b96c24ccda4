"""Resizing by whole factors, pixel shuffle and its inverse.

    nearest, pixel shuffle by r    [a, b)  from  [floor(a/r), ceil(b/r))
    linear, half-pixel centres             from  [floor((a+½)/r - ½), floor((b-½)/r - ½) + 2)
    cubic, half-pixel centres              one more on each side
    pixel unshuffle by r                   from  [a·r, b·r)

The result is a superset and is cropped. Other factors and corner-aligned grids place their samples
by the size of the whole image, so they are computed whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import IndexMap, Tape, shape, with_full
from edgekit.plan.maps.windowed import cropped
from edgekit.plan.region import Bound, Region, Span, ceil_div, clip, whole

aten = torch.ops.aten
NEAREST = (
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
    aten.upsample_nearest2d.default, aten.upsample_nearest3d.default, aten.upsample_nearest1d.default,
)  # fmt: skip
LINEAR = (aten.upsample_linear1d.vec, aten.upsample_bilinear2d.vec, aten.upsample_trilinear3d.vec,
          aten.upsample_bilinear2d.default)  # fmt: skip
CUBIC = (aten.upsample_bicubic2d.vec, aten.upsample_bicubic2d.default)


class Resizing(IndexMap):
    """upsample_* by whole factors."""

    def factors(self, node: Node) -> list[int] | None:
        """Per spatial dimension, or None where the operator is not local."""
        source: Any = node.args[0]
        pairs = list(zip(shape(node)[2:], shape(source)[2:], strict=True))
        is_aligned = node.target not in NEAREST and bool(node.args[2])
        if is_aligned or any(out % size for out, size in pairs):
            return None
        factors = [out // size for out, size in pairs]
        given = [
            scale
            for value in node.args[2:]
            for scale in (value if isinstance(value, list | tuple) else [value])
            if isinstance(scale, float)
        ]
        # 2.05 of 12 pixels are 24 as well, and other samples.
        return None if given and given != [float(r) for r in factors] else factors

    def computed(self, node: Node, region: Region) -> Region:
        return region if self.factors(node) else whole(shape(node))

    def cell(self, node: Node, dim: int) -> int:
        factors = self.factors(node)
        return factors[dim] if factors and len(factors) >= -dim and node.target in NEAREST else 1

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        factors = self.factors(node)
        if factors is None:
            return {source: whole(shape(source))}
        spatial = [
            clip(_read(node.target, span, r), size)
            for span, r, size in zip(region[2:], factors, shape(source)[2:], strict=True)
        ]
        return {source: (*region[:2], *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        needed = self.needs(node, region)[source]
        part = tape.operand(source, needed)
        factors = self.factors(node)
        if factors is None:
            return tape.call(node.target, part, *node.args[1:], **node.kwargs)
        sizes = [size * r for size, r in zip(tape.sizes(part)[2:], factors, strict=True)]
        rest = [] if node.target in NEAREST else [False]
        if "vec" in str(node.target):
            x = tape.call(node.target, part, sizes, *rest, None)
        else:
            x = tape.call(node.target, part, sizes, *rest)
        crops = {
            dim: (int(start) - int(first) * r, int(stop) - int(first) * r)
            for dim, ((start, stop), (first, _), r) in enumerate(
                zip(region[2:], needed[2:], factors, strict=True), start=2
            )
        }
        return cropped(tape, x, crops)


def _read(target: Any, span: Span, r: int) -> Span:
    start, stop = span
    if target in NEAREST or r == 1:
        return start // r, ceil_div(stop, r)
    first: Bound = (2 * start + 1 - r) // (2 * r)
    last: Bound = (2 * stop - 1 - r) // (2 * r) + 2
    return (first - 1, last + 1) if target in CUBIC else (first, last)


class PixelShuffle(IndexMap):
    """(N, C·r·r, H, W) to (N, C, H·r, W·r)."""

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {len(region) - 3})

    def cell(self, node: Node, dim: int) -> int:
        return int(node.args[1])  # type: ignore[arg-type]

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        r: Any = node.args[1]
        spatial = [(start // r, ceil_div(stop, r)) for start, stop in region[-2:]]
        return {source: (*region[:-3], (0, shape(source)[-3]), *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        r: Any = node.args[1]
        needed = self.needs(node, region)[source]
        x = tape.call(node.target, tape.operand(source, needed), r)
        rank = len(region)
        return cropped(
            tape,
            x,
            {
                dim: (
                    int(region[dim][0]) - int(needed[dim][0]) * r,
                    int(region[dim][1]) - int(needed[dim][0]) * r,
                )
                for dim in (rank - 2, rank - 1)
            },
        )


class PixelUnshuffle(IndexMap):
    """(N, C, H·r, W·r) to (N, C·r·r, H, W)."""

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {len(region) - 3})

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        r: Any = node.args[1]
        spatial = [(start * r, stop * r) for start, stop in region[-2:]]
        return {source: (*region[:-3], (0, shape(source)[-3]), *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(node.target, tape.operand(source, needed), node.args[1])


RESIZING: dict[object, IndexMap] = {
    **dict.fromkeys((*NEAREST, *LINEAR, *CUBIC), Resizing()),
    aten.pixel_shuffle.default: PixelShuffle(),
    aten.pixel_unshuffle.default: PixelUnshuffle(),
}
