"""Where a graph is quantised: which layers have weights in codes, and which values pass between operators as codes.

A runtime has an integer kernel for an operator only if everything it reads and what it gives are codes. So the
inputs and the result of every layer are, with an activation in between left to the kernel; and from a layer's
input backwards all that sums, joins, pools and moves values, up to the layers or the floats that they come from.
What only moves values gives them on with the scale that it got.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.fx import Graph, Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.source import module_path

aten = torch.ops.aten

CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default}
WEIGHTED = {*CONVOLUTIONS, aten.linear.default, aten.conv_transpose2d.input}
PRODUCTS = {aten.matmul.default, aten.bmm.default}
TRANSPOSED = {aten.conv_transpose2d.input}
"""Without an integer kernel in onnxruntime: weights alone are stored in codes."""
ACTIVATIONS = {aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default,
               aten.clamp_min.default}  # fmt: skip
"""What cuts values, as codes do at their ends: part of the kernel in front of it."""
COMBINING = {aten.add.Tensor, aten.mul.Tensor, aten.cat.default, aten.avg_pool2d.default,
             aten.adaptive_avg_pool2d.default, aten.sigmoid.default}  # fmt: skip
"""Integer kernels whose result has a scale of its own."""
MOVING = {
    aten.max_pool2d.default, aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec,
    aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.permute.default,
    aten.transpose.int, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten.slice.Tensor, aten.pixel_shuffle.default, operator.getitem,
}  # fmt: skip
"""Of their results every number was one of the input's, or lies between such."""
PARTED = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default}


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix product with a stored weight."""

    name: str
    """The path of its module, or of the node where modules share it."""
    node: Node
    axis: int
    """Of the weight: output channels."""
    macs: int

    @property
    def source(self) -> Node:
        """What it reads, before zeros are put around it: they are codes too."""
        given: Any = argument(self.node, 0)
        return unpadded(given)

    @property
    def takes_branch(self) -> bool:
        """Whether its weight is one matrix: not of groups, not transposed."""
        return self.node.target not in TRANSPOSED and argument(self.node, 6, 1) == 1

    @property
    def channels(self) -> int:
        """That it reads."""
        weight = shape_of(argument(self.node, 1))
        if self.node.target in TRANSPOSED:
            return weight[0]
        return weight[1] * int(argument(self.node, 6, 1))

    @property
    def channels_axis(self) -> int:
        """Of the result."""
        rank = len(shape_of(self.node))
        is_product = self.node.target is aten.linear.default
        return rank - 1 if is_product else rank - len(shape_of(argument(self.node, 1))) + 1

    @property
    def result(self) -> Node:
        """What it gives, behind the activation that its kernel applies."""
        return after_activation(self.node)


def layers(edit: GraphEditor) -> list[Layer]:
    """In the graph's order."""
    found: list[Layer] = []
    names: set[str] = set()
    for node in edit.graph.nodes:
        axis = _output_axis(node, edit)
        if axis is None:
            continue
        name = module_path(node) or node.name
        name = node.name if name in names else name
        names.add(name)
        found.append(Layer(name, node, axis, _macs(node)))
    return found


def _output_axis(node: Node, edit: GraphEditor) -> int | None:
    """None for what is no layer, or has channels that lie across two axes."""
    if node.target not in WEIGHTED or edit.constant_value(argument(node, 1)) is None:
        return None
    if node.target in TRANSPOSED:
        return None if argument(node, 6, 1) != 1 else 1
    return 0


def _macs(node: Node) -> int:
    weight, result = shape_of(argument(node, 1)), shape_of(node)
    if node.target in TRANSPOSED:
        return prod(shape_of(argument(node, 0))) * prod(weight[1:])
    return prod(result) * prod(weight[1:])


def quantised_values(graph: Graph, chosen: list[Layer]) -> dict[Node, Node]:
    """Values that become codes, each with the one whose scale it has, in the graph's order."""
    wanted: set[Node] = set()
    for layer in chosen:
        wanted |= {layer.source, layer.result}
        _want_before(layer.source, wanted, set())
    for node in _products(graph):
        for source in node.all_input_nodes:
            wanted.add(source)
            _want_before(source, wanted, set())
        wanted.add(after_activation(node))
    roots: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in wanted and node.op != "get_attr" and _is_float(node):
            origin = moved(node)
            roots[node] = node if origin is None else roots.get(origin, node)
    return roots


def _want_before(value: Node, wanted: set[Node], seen: set[Node]) -> None:
    """All that must be codes so that `value`, which is, comes out of an integer kernel."""
    kernel = before_activation(value)
    if kernel in seen:
        return
    seen.add(kernel)
    for source in _read_as_codes(kernel):
        wanted.add(source)
        _want_before(source, wanted, seen)


def _read_as_codes(kernel: Node) -> Iterator[Node]:
    if (source := moved(kernel)) is not None:
        yield source
    elif kernel.target in COMBINING and not kernel.kwargs:
        first = arguments_of(kernel)[0]
        read = list(first) if isinstance(first, list | tuple) else [first]
        if kernel.target in (aten.add.Tensor, aten.mul.Tensor):
            read.append(argument(kernel, 1))
        if all(isinstance(source, Node) and source.op != "get_attr" for source in read):
            yield from read


def _products(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if node.target in PRODUCTS and all(x.op != "get_attr" for x in node.all_input_nodes):
            yield node


def moved(node: Node) -> Node | None:
    """The value that `node` only moves, else None."""
    source = argument(node, 0) if node.op == "call_function" and node.args else None
    if node.target not in MOVING or not isinstance(source, Node):
        return None
    if node.target is not operator.getitem:
        return source
    parted = argument(source, 0)
    return parted if isinstance(parted, Node) and source.target in PARTED else None


def unpadded(value: Node) -> Node:
    """What zeros were put around that only convolutions read: a runtime pads in the convolution."""
    if value.target not in (aten.constant_pad_nd.default, aten.pad.default):
        return value
    is_constant = (
        value.target is not aten.pad.default or argument(value, 2, "constant") == "constant"
    )
    filling = argument(value, 3 if value.target is aten.pad.default else 2, 0) or 0
    if is_constant and filling == 0 and all(user.target in CONVOLUTIONS for user in value.users):
        source = argument(value, 0)
        return source if isinstance(source, Node) else value
    return value


def after_activation(node: Node) -> Node:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and readers[0].target in ACTIVATIONS else node


def before_activation(value: Node) -> Node:
    source = argument(value, 0) if value.target in ACTIVATIONS else None
    return source if isinstance(source, Node) and len(source.users) == 1 else value


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype is torch.float32
