"""Crop an image without leaving onnxruntime's blocked layout, which no slice can be made in.

    x[..., a : H - b, :]  =  a depthwise convolution, one weight of each channel 1 and the others 0

Its kernel of k taps, d apart, spans what is cropped, (k - 1) · d = a + b, with the 1 at tap a / d: two
taps where one side is cropped, three where both lose the same. Crops of other shapes stay slices,
and a pool of one pixel lets their result enter the layout again (see blocked_layout_entry). Values
must be finite, since 0 · ∞ is none.

Tiles crop what a shrinking branch is joined to. A slice puts the tensor in plain order before it,
and with it all that it is added to or concatenated with, and in blocks again behind. unet-c16 in 4x4
tiles at 1024x1024, one thread: 8 % of the time (see benchmarks/plan_memory.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
BLOCK = 16
"""Channels of a block on AVX-512; 8 on AVX2, which divides it."""
MOST_TAPS = 3
ENTRANCES = {aten.conv2d.default, aten.max_pool2d.default, aten.avg_pool2d.default}
WITHIN = {
    aten.relu.default, aten.leaky_relu.default, aten.sigmoid.default, aten.tanh.default,
    aten.clamp.default, aten.relu6.default, aten.hardtanh.default, aten.hardsigmoid.default,
    aten.upsample_nearest2d.vec, aten.add.Tensor, aten.cat.default,
}  # fmt: skip
"""What onnxruntime computes in the layout, or with the convolution in front of it."""


@dataclass(frozen=True)
class Crop:
    source: Node
    before: tuple[int, int]
    """Lines and columns cropped in front."""
    after: tuple[int, int]

    @property
    def taps(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Number and distance of a kernel's taps, down and across."""
        down, across = (_taps(a, b) for a, b in zip(self.before, self.after, strict=True))
        return down, across


class CropInBlockedLayout(Rule):
    name = "crop-in-blocked-layout"

    def match(self, node: Node, edit: GraphEditor) -> Crop | None:
        """The last of the slices that crop an image, between operators that keep the layout."""
        if not _is_slice(node) or any(_is_slice(user) for user in node.users):
            return None
        source: Any = node
        before, after = [0, 0], [0, 0]
        while _is_slice(source):
            dim, start, stop, size = _cut(source)
            before[dim - 2] += start
            after[dim - 2] += size - stop
            source = source.args[0]
        if not any(before + after) or not _is_blocked(source):
            return None
        if not all(_stays_blocked(user, node) for user in node.users):
            return None
        return Crop(source, (before[0], before[1]), (after[0], after[1]))

    def replace(self, match: Crop, edit: GraphEditor) -> Node:
        (rows, down), (columns, across) = match.taps
        if max(rows, columns) > MOST_TAPS:
            return self._sliced(match, edit)
        channels = shape_of(match.source)[1]
        weight = torch.zeros(channels, 1, rows, columns)
        weight[:, :, match.before[0] // down, match.before[1] // across] = 1
        return edit.call(
            aten.conv2d.default, match.source, edit.constant(weight), None,
            [1, 1], [0, 0], [down, across], channels,
        )  # fmt: skip

    def _sliced(self, match: Crop, edit: GraphEditor) -> Node:
        x = match.source
        for dim, size in enumerate(shape_of(match.source)[2:], start=2):
            before, after = match.before[dim - 2], match.after[dim - 2]
            if before or after:
                x = edit.call(aten.slice.Tensor, x, dim, before, size - after)
        return edit.call(aten.max_pool2d.default, x, [1, 1])


def _taps(before: int, after: int) -> tuple[int, int]:
    distance = gcd(before, after) or 1
    return (before + after) // distance + 1, distance


def _is_slice(node: Any) -> bool:
    """Consecutive lines or columns of an image."""
    return (
        isinstance(node, Node)
        and node.target is aten.slice.Tensor
        and len(shape_of(node)) == 4
        and argument(node, 1, 0) % 4 >= 2
        and argument(node, 4, 1) == 1
    )


def _cut(node: Node) -> tuple[int, int, int, int]:
    """Dimension, first index, end and what there was."""
    dim: Any = argument(node, 1, 0)
    start: Any = argument(node, 2) or 0
    size = shape_of(node.args[0])[dim % 4]
    first = min(start + size if start < 0 else start, size)
    return dim % 4, first, first + shape_of(node)[dim % 4], size


def _is_blocked(node: Any) -> bool:
    """Whether onnxruntime has the value in blocks of channels."""
    sizes = shape_of(node)
    if len(sizes) != 4 or sizes[1] % BLOCK or node.meta["val"].dtype != torch.float32:
        return False
    if node.target in ENTRANCES:
        return True
    return (node.target in WITHIN or _is_slice(node)) and all(
        map(_is_blocked, node.all_input_nodes)
    )


def _stays_blocked(user: Node, cropped: Node) -> bool:
    """Whether `user` takes blocks once `cropped` comes in blocks."""
    if user.target in ENTRANCES:
        return user.args[0] is cropped
    others = (source for source in user.all_input_nodes if source is not cropped)
    return user.target in WITHIN and all(map(_is_blocked, others))
