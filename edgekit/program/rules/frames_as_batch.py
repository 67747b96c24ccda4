"""Run 5-D video tensors as 4-D batches of frames; Conv3d becomes Conv2d over shifted frames.

A tensor X of shape (1, C, T, H, W) is kept as F of shape (T, C, H, W). With kernel K of shape
(Cout, C, kt, kh, kw) and F padded in time to F', a Conv3d is

    Y[t] = sum over tau of  K[:, :, tau] * F'[t * stride + tau * dilation]

where * is the 2-D convolution: one Conv2d over the channel concatenation of kt shifted slices of
F', with K reshaped to (Cout, kt·C, kh, kw), or a sum of kt depthwise Conv2d. Same multiplications,
exact up to the order of sums. Pointwise operators, means over channels or pixels, slices and
concatenations carry over axis by axis; any other operator gets its 5-D tensor back by a permute,
which the shape-chain rule then collapses.

Why: Conv3d does not reach the Neural Engine, the Core ML and XNNPACK providers of ONNX Runtime or
most NPUs (onnxruntime#28580, XNNPACK#1315), and MLAS runs it several times slower than Conv2d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Decision, Rule
from edgekit.program.source import origin

aten = torch.ops.aten
FRAME_AXIS = {1: 1, 2: 0, 3: 2, 4: 3}
"""Axis of (1, C, T, H, W) to axis of (T, C, H, W); the batch axis 0 has none."""

POINTWISE = {
    getattr(aten, name).default
    for name in (
        "relu", "silu", "sigmoid", "tanh", "gelu", "rsqrt", "sqrt", "neg", "abs", "exp", "log",
        "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "softplus", "clamp", "erf",
        "reciprocal", "relu6", "mish", "maximum", "minimum",
    )
} | {
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.add.Scalar,
    aten.sub.Scalar, aten.mul.Scalar, aten.div.Scalar, aten.pow.Tensor_Scalar,
    aten.pow.Tensor_Tensor, aten.clamp_min.default, aten.clamp_max.default, aten.rsub.Scalar,
}  # fmt: skip
CONVOLUTIONS = (aten.conv3d.default, aten.conv3d.padding)
REDUCTIONS = {aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default}


class FramesAsBatch(Rule):
    name = "frames-as-batch"

    def apply(self, edit: GraphEditor) -> list[Decision]:
        convs = [node for node in edit.graph.nodes if node.target in CONVOLUTIONS]
        reasons = [_why_not(node, edit) for node in convs]
        if not all(reasons):
            _Folding(edit).run()
            edit.clean()
        return [
            Decision(self.name, node.name, origin(node), not reason, reason)
            for node, reason in zip(convs, reasons, strict=True)
        ]


def _why_not(conv: Node, edit: GraphEditor) -> str:
    """Why a Conv3d stays one, else ""."""
    shape = shape_of(conv)
    if len(shape) != 5:
        return "the video has no batch axis"
    if shape[0] != 1:
        return f"the batch is {shape[0]}; frames can take its place only at 1"
    return "" if edit.constant_value(conv.args[1]) is not None else "its kernel is computed"


class _Folding:
    """One walk over the graph; `twins` maps a 5-D node to its T C H W counterpart."""

    def __init__(self, edit: GraphEditor) -> None:
        self.edit = edit
        self.twins: dict[Node, Node] = {}
        self.folded: set[Node] = set()
        """Nodes that only their twin stands for; the others in `twins` stay in the graph."""

    def run(self) -> None:
        for node in list(self.edit.graph.nodes):
            if node.op == "output":
                with self.edit.replacing(node):
                    self._give_back_video(node)
            elif node.target is aten.layer_norm.default:
                with self.edit.replacing(node):
                    self._give_back_video(node)
                    self._drop_unit_batch(node)
            elif node.op == "call_function":
                with self.edit.replacing(node):
                    twin = self._fold_node(node)
                    if twin is None:
                        self._give_back_video(node)
                    else:
                        self.twins[node] = twin
                        self.folded.add(node)

    def frames(self, node: Node) -> Node:
        """The T C H W twin of a 5-D node, made by a permute if it has none."""
        if node not in self.twins:
            _, c, t, h, w = shape_of(node)
            swapped = self.edit.call(aten.permute.default, node, [0, 2, 1, 3, 4])
            self.twins[node] = self.edit.call(aten.reshape.default, swapped, [t, c, h, w])
        return self.twins[node]

    def _fold_node(self, node: Node) -> Node | None:
        """The twin of `node`, or None where it is no video tensor or its operator is not known."""
        lower = LOWERINGS.get(node.target)
        shape = shape_of(node)
        if lower is None or len(shape) != 5 or shape[0] != 1:
            return None
        return lower(self, node)

    def _drop_unit_batch(self, norm: Node) -> None:
        """LayerNorm of 1 T H W C over its last axes, at rank 4."""
        shape = shape_of(norm)
        if len(shape) != 5 or shape[0] != 1 or len(argument(norm, 1)) == 5:
            return
        flat = self.edit.call(aten.reshape.default, argument(norm, 0), list(shape[1:]))
        normed = self.edit.call(norm.target, flat, *arguments_of(norm)[1:], **norm.kwargs)
        norm.replace_all_uses_with(self.edit.call(aten.reshape.default, normed, list(shape)))

    def _give_back_video(self, user: Node) -> None:
        """Make `user`, which stays 5-D, read the 5-D form of its folded inputs."""
        for producer in list(user.all_input_nodes):
            if producer in self.folded:
                twin = self.twins[producer]
                t, c, h, w = shape_of(twin)
                # The source line is the producer's: an output has none.
                with self.edit.replacing(producer), self.edit.graph.inserting_before(user):
                    video = self.edit.call(aten.reshape.default, twin, [1, t, c, h, w])
                    video = self.edit.call(aten.permute.default, video, [0, 2, 1, 3, 4])
                user.replace_input_with(producer, video)


def _pointwise(folding: _Folding, node: Node) -> Node | None:
    operands = []
    for operand in arguments_of(node):
        if isinstance(operand, Node):
            shape = shape_of(operand)
            if len(shape) == 5 and shape[0] == 1:
                operand = folding.frames(operand)
            elif shape != ():
                return None
        operands.append(operand)
    return folding.edit.call(node.target, *operands, **node.kwargs)


def _reduction(folding: _Folding, node: Node) -> Node | None:
    source, dims, *rest = arguments_of(node)
    options = dict(node.kwargs)
    keep = bool(rest and rest[0]) or bool(options.pop("keepdim", False))
    axes = [dim % 5 for dim in dims or ()]
    if not keep or 0 in axes or not axes:
        return None
    folded = [FRAME_AXIS[axis] for axis in axes]
    return folding.edit.call(node.target, folding.frames(source), folded, True, **options)


def _slice(folding: _Folding, node: Node) -> Node | None:
    source, axis, *bounds = arguments_of(node)
    axis = int(axis) % 5
    if axis == 0:
        return None
    return folding.edit.call(node.target, folding.frames(source), FRAME_AXIS[axis], *bounds)


def _concatenation(folding: _Folding, node: Node) -> Node | None:
    axis = int(argument(node, 1)) % 5 if len(arguments_of(node)) > 1 else 0
    if axis == 0:
        return None
    parts = [folding.frames(part) for part in argument(node, 0)]
    return folding.edit.call(node.target, parts, FRAME_AXIS[axis])


def _spatial_pad(folding: _Folding, node: Node) -> Node | None:
    amounts = list(argument(node, 1))
    if any(amounts[4:]):
        return None
    rest = arguments_of(node)[2:]
    frames = folding.frames(argument(node, 0))
    return folding.edit.call(node.target, frames, amounts[:4], *rest, **node.kwargs)


def _convolution(folding: _Folding, node: Node) -> Node | None:
    edit = folding.edit
    source, weight_node, bias, stride, padding, dilation, groups = _conv_arguments(node)
    weight = edit.constant_value(weight_node)
    if weight is None:
        return None
    kt = weight.shape[2]
    uneven = [0, 0, 0]  # padding that an even kernel has behind only, under "same"
    if isinstance(padding, str):
        wide = padding == "same"
        reach = [d * (k - 1) * wide for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding, uneven = [size // 2 for size in reach], [size % 2 for size in reach]
    frames = _with_zero_frames(edit, folding.frames(source), padding[0], padding[0] + uneven[0])
    if any(uneven[1:]):
        frames = edit.call(aten.constant_pad_nd.default, frames, [0, uneven[2], 0, uneven[1]])
    count = (shape_of(frames)[0] - dilation[0] * (kt - 1) - 1) // stride[0] + 1
    shifted = [_every(edit, frames, tau * dilation[0], count, stride[0]) for tau in range(kt)]

    def conv2d(x: Node, kernel: Tensor, with_bias: object) -> Node:
        constant = edit.constant(kernel)
        return edit.call(
            aten.conv2d.default, x, constant, with_bias, stride[1:], padding[1:], dilation[1:],
            groups,
        )  # fmt: skip

    if kt == 1:
        return conv2d(shifted[0], weight[:, :, 0], bias)
    if groups == 1:
        stacked = edit.call(aten.cat.default, shifted, 1)
        return conv2d(stacked, weight.transpose(1, 2).flatten(1, 2), bias)
    total = conv2d(shifted[0], weight[:, :, 0], bias)
    for tau in range(1, kt):
        total = edit.call(aten.add.Tensor, total, conv2d(shifted[tau], weight[:, :, tau], None))
    return total


def _nearest_upsample(folding: _Folding, node: Node) -> Node | None:
    edit, (_, _, frames_out, height, width) = folding.edit, shape_of(node)
    frames = folding.frames(argument(node, 0))
    count, _, h, w = shape_of(frames)
    if frames_out % count or height % h or width % w:
        return None
    # With a factor such as 2.4 from 2 to 4 pixels, torch picks pixels by the factor, not the sizes.
    factors = [frames_out / count, height / h, width / w]
    if list(argument(node, 2) or factors) != factors:
        return None
    if frames_out > count:
        single = [edit.call(aten.slice.Tensor, frames, 0, t, t + 1) for t in range(count)]
        frames = edit.call(
            aten.cat.default, [frame for frame in single for _ in range(frames_out // count)], 0
        )
    scales = [float(height // h), float(width // w)]
    return edit.call(aten.upsample_nearest2d.vec, frames, None, scales)


def _conv_arguments(node: Node) -> tuple[Any, Any, Any, list[int], Any, list[int], int]:
    """`padding` may be "same" or "valid"."""

    def triple(index: int, default: int) -> Any:
        value = argument(node, index, [default])
        if isinstance(value, str):
            return value
        return list(value) * 3 if len(value) == 1 else list(value)

    source, weight, bias = (argument(node, index) for index in range(3))
    return source, weight, bias, triple(3, 1), triple(4, 0), triple(5, 1), argument(node, 6, 1)


def _every(edit: GraphEditor, frames: Node, start: int, count: int, step: int) -> Node:
    if start == 0 and step == 1 and count == shape_of(frames)[0]:
        return frames
    stop = start + (count - 1) * step + 1
    return edit.call(aten.slice.Tensor, frames, 0, start, stop, step)


def _with_zero_frames(edit: GraphEditor, frames: Node, before: int, after: int) -> Node:
    """As a pad, which a file states in a few bytes; zeros to concatenate would be stored as weights."""
    if not before and not after:
        return frames
    return edit.call(aten.constant_pad_nd.default, frames, [0, 0, 0, 0, 0, 0, before, after], 0.0)


LOWERINGS: dict[Any, Callable[[_Folding, Node], Node | None]] = {
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    aten.slice.Tensor: _slice,
    aten.cat.default: _concatenation,
    aten.pad.default: _spatial_pad,
    aten.constant_pad_nd.default: _spatial_pad,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    aten.upsample_nearest3d.vec: _nearest_upsample,
}
