"""Convolutions, transposed convolutions and pooling.

A window operator of kernel k, stride s, dilation d and padding p computes outputs [a, b) from

    inputs [a·s - p,  (b-1)·s - p + (k-1)·d + 1)

and what of that lies outside the image is its padding: part of a tile's own padding where the tile
touches the true border, and none inside. A transposed one computes them from

    inputs [ceil((a + p - (k-1)·d) / s),  floor((b - 1 + p) / s) + 1)

and a superset of outputs, which is cropped. (facts: TinyEngine's grain arithmetic, without its limits.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import (
    IndexMap,
    Tape,
    has_constant_parameters,
    is_batched,
    shape,
    with_full,
)
from edgekit.plan.region import Region, Span, ceil_div, chosen, clip, lower, whole

aten = torch.ops.aten


@dataclass(frozen=True)
class Window:
    """Geometry along one dimension."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def reads(self, span: Span) -> Span:
        """Inputs of outputs [a, b), before clipping."""
        start, stop = span
        reach = (self.kernel - 1) * self.dilation
        return start * self.stride - self.padding, (
            stop - 1
        ) * self.stride - self.padding + reach + 1


def _listed(value: Any, count: int, default: int | None = None) -> list[int]:
    if value is None or value == []:
        assert default is not None
        return [default] * count
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(item) for item in (values * count if len(values) == 1 else values)]


def _argument(node: Node, index: int, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else default


class Convolution(IndexMap):
    """conv1d, conv2d, conv3d with a constant weight."""

    def applies(self, node: Node) -> bool:
        return is_batched(node) and has_constant_parameters(node)

    def windows(self, node: Node) -> list[Window]:
        weight: Any = node.args[1]
        kernel = shape(weight)[2:]
        count = len(kernel)
        strides = _listed(_argument(node, 3), count, 1)
        paddings = _listed(_argument(node, 4), count, 0)
        dilations = _listed(_argument(node, 5), count, 1)
        return [
            Window(*numbers) for numbers in zip(kernel, strides, paddings, dilations, strict=True)
        ]

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {1})

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        sizes = shape(source)
        spatial = [
            clip(window.reads(span), size)
            for window, span, size in zip(self.windows(node), region[2:], sizes[2:], strict=True)
        ]
        return {source: (region[0], (0, sizes[1]), *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        needed = self.needs(node, region)[source]
        windows = self.windows(node)
        pads = [
            _outside(window, span, inside)
            for window, span, inside in zip(windows, region[2:], needed[2:], strict=True)
        ]
        x = _padded(tape, tape.operand(source, needed), pads, 0.0)
        weight, bias = (_constant(tape, _argument(node, index)) for index in (1, 2))
        strides, _, dilations = zip(
            *((w.stride, w.padding, w.dilation) for w in windows), strict=True
        )
        own = [before if before == after else 0 for before, after in pads]
        return tape.call(
            node.target, x, weight, bias, list(strides), own, list(dilations), _argument(node, 6, 1)
        )


def _constant(tape: Tape, value: Any) -> Any:
    return tape.operand(value, whole(shape(value))) if isinstance(value, Node) else value


def _outside(window: Window, span: Span, inside: Span) -> tuple[int, int]:
    """Padding before and after: what the window reads beyond what there is."""
    start, stop = window.reads(span)
    return int(inside[0] - start), int(stop - inside[1])


def _padded(tape: Tape, x: Any, pads: list[tuple[int, int]], value: float) -> Any:
    """Unequal padding as an operator of its own; equal padding is left to the window operator."""
    unequal = [pair if pair[0] != pair[1] else (0, 0) for pair in pads]
    if not any(any(pair) for pair in unequal):
        return x
    flat = [amount for pair in reversed(unequal) for amount in pair]
    return tape.call(aten.constant_pad_nd.default, x, flat, value)


class TransposedConvolution(IndexMap):
    """conv_transpose1d, 2d, 3d with a constant weight."""

    def applies(self, node: Node) -> bool:
        return is_batched(node) and has_constant_parameters(node)

    def windows(self, node: Node) -> list[tuple[Window, int]]:
        """Geometry along each dimension, with output_padding."""
        weight: Any = node.args[1]
        kernel = shape(weight)[2:]
        count = len(kernel)
        strides = _listed(_argument(node, 3), count, 1)
        paddings = _listed(_argument(node, 4), count, 0)
        extra = _listed(_argument(node, 5), count, 0)
        dilations = _listed(_argument(node, 7), count, 1)
        numbers = zip(kernel, strides, paddings, dilations, strict=True)
        return [(Window(*n), e) for n, e in zip(numbers, extra, strict=True)]

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {1})

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        sizes = shape(source)
        spatial = []
        for (w, _), (start, stop), size in zip(
            self.windows(node), region[2:], sizes[2:], strict=True
        ):
            first = ceil_div(start + w.padding - (w.kernel - 1) * w.dilation, w.stride)
            first = lower(first, (start + w.padding) // w.stride)  # a gap where stride > kernel
            last = (stop - 1 + w.padding) // w.stride
            spatial.append(clip((first, last + 1), size))
        return {source: (region[0], (0, sizes[1]), *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        needed = self.needs(node, region)[source]
        windows = self.windows(node)
        extra, crops = [], []
        for (w, _), (start, stop), (first, last) in zip(
            windows, region[2:], needed[2:], strict=True
        ):
            origin = int(first) * w.stride - w.padding  # of the output that is computed unpadded
            length = (int(last) - int(first) - 1) * w.stride + (w.kernel - 1) * w.dilation + 1
            extra.append(max(0, int(stop) - origin - length))
            crops.append((int(start) - origin, int(stop) - origin))
        weight, bias = (_constant(tape, _argument(node, index)) for index in (1, 2))
        x = tape.call(
            node.target, tape.operand(source, needed), weight, bias,
            [w.stride for w, _ in windows], [0] * len(windows), extra, _argument(node, 6, 1),
            [w.dilation for w, _ in windows],
        )  # fmt: skip
        return cropped(tape, x, dict(enumerate(crops, start=2)))


def cropped(tape: Tape, x: Any, crops: dict[int, tuple[int, int]]) -> Any:
    """Slices along some dimensions; none where everything is kept."""
    sizes = tape.sizes(x)
    for dim, (start, stop) in crops.items():
        if (start, stop) != (0, sizes[dim]):
            x = tape.call(aten.slice.Tensor, x, dim, start, stop)
    return x


class Pooling(IndexMap):
    """max_pool and avg_pool, with ceil_mode and count_include_pad.

    At a true border the operator pads by itself, as in the whole image (its divisor counts what it
    counts there); a part that reaches the end starts at a multiple of the stride, and what its padding
    spoils or adds at the other end is cropped.
    """

    def applies(self, node: Node) -> bool:
        return is_batched(node)

    def windows(self, node: Node) -> list[Window]:
        count = len(shape(node)) - 2
        kernel = _listed(node.args[1], count)
        strides: Any = _argument(node, 2)
        stride = kernel if strides is None or strides == [] else _listed(strides, count)
        paddings = _listed(_argument(node, 3), count, 0)
        is_max = "max_pool" in str(node.target)
        dilations = _listed(_argument(node, 4) if is_max else None, count, 1)
        return [
            Window(*numbers) for numbers in zip(kernel, stride, paddings, dilations, strict=True)
        ]

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        lead = len(region) - len(self.windows(node))
        sizes = shape(source)[lead:]
        spatial = []
        for window, span, size in zip(self.windows(node), region[lead:], sizes, strict=True):
            start, stop = window.reads(span)
            aligned = start // window.stride * window.stride
            spatial.append(clip((chosen(stop > size, aligned, start), stop), size))
        return {source: (*region[:lead], *spatial)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        needed = self.needs(node, region)[source]
        windows = self.windows(node)
        lead = len(region) - len(windows)
        pads, crops = [], {}
        for dim, window in enumerate(windows, start=lead):
            start, stop = (int(bound) for bound in region[dim])
            inside = window.reads((start, stop)) == needed[dim]
            pads.append(0 if inside else window.padding)
            if not inside:
                before = int(needed[dim][0]) // window.stride
                crops[dim] = (start - before, stop - before)
        strides = [window.stride for window in windows]
        part = tape.operand(source, needed)
        x = tape.call(node.target, part, node.args[1], strides, pads, *node.args[4:])
        return cropped(tape, x, crops)


WINDOWED: dict[object, IndexMap] = {
    **dict.fromkeys(
        (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), Convolution()
    ),
    **dict.fromkeys(
        (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
        TransposedConvolution(),
    ),
    **dict.fromkeys(
        (aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
         aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default),
        Pooling(),
    ),
}  # fmt: skip
