"""Emitting the operators of a box: straight into torch, or as nodes of a new graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import is_constant, shape
from edgekit.plan.network import Boxes
from edgekit.plan.region import Region, whole
from edgekit.program.editing import GraphEditor, provenance

aten = torch.ops.aten


class BoxTape(ABC):
    """Holds what has been emitted, each value with the box that it covers, and slices operands."""

    def __init__(self, constant: Callable[[Node], Any]) -> None:
        self.held: dict[Node, tuple[Any, Region]] = {}
        self.origin: Node | None = None
        """The node that is being emitted."""
        self._constant = constant

    def hold(self, node: Node, value: Any, region: Region) -> None:
        self.held[node] = (value, region)

    def operand(self, node: Node, region: Region) -> Any:
        if is_constant(node):
            value, has = self._constant(node), whole(shape(node))
        else:
            value, has = self.held[node]
        for dim, ((start, stop), (first, last)) in enumerate(zip(region, has, strict=True)):
            if (int(start), int(stop)) != (int(first), int(last)):
                value = self.call(
                    aten.slice.Tensor, value, dim, int(start) - int(first), int(stop) - int(first)
                )
        return value

    @abstractmethod
    def call(self, operator: Any, *arguments: Any, **options: Any) -> Any: ...

    @abstractmethod
    def sizes(self, value: Any) -> tuple[int, ...]: ...

    def run(self, boxes: Boxes) -> None:
        """Emit every node of `boxes`, whose sources are held already."""
        for node in boxes.order:
            self.origin = node
            region = boxes.computed[node]
            self.hold(node, map_of(node).emit(node, region, self), region)


class TorchTape(BoxTape):
    """Computes at once: the reference for what emitted graphs do."""

    def __init__(self, edit: GraphEditor) -> None:
        super().__init__(partial(stored_value, edit))

    def call(self, operator: Any, *arguments: Any, **options: Any) -> Any:
        return operator(*arguments, **options)

    def sizes(self, value: Any) -> tuple[int, ...]:
        return tuple(value.shape)


class GraphTape(BoxTape):
    """Writes a new graph over the module of an edited one, whose constants it shares."""

    def __init__(self, edit: GraphEditor) -> None:
        super().__init__(self._copied)
        self.edit = edit
        self.graph = Graph()
        self._copies: dict[Node, Node] = {}

    def _copied(self, node: Node) -> Node:
        if node not in self._copies:
            self._copies[node] = self.graph.node_copy(node, self._copied)
        return self._copies[node]

    def placeholder(self, name: str, sizes: tuple[int, ...], dtype: torch.dtype) -> Node:
        node = self.graph.placeholder(name)
        with self.edit.fake:
            node.meta["val"] = torch.empty(sizes, dtype=dtype)
        return node

    def call(self, operator: Any, *arguments: Any, **options: Any) -> Node:
        node = self.graph.call_function(operator, arguments, options)
        if self.origin is not None:
            node.meta.update(provenance(self.origin))
        with self.edit.fake, torch.no_grad():
            given = map_arg((arguments, options), lambda argument: argument.meta["val"])
            node.meta["val"] = operator(*given[0], **given[1])
        return node

    def sizes(self, value: Any) -> tuple[int, ...]:
        return tuple(int(size) for size in value.meta["val"].shape)

    def finish(self, *results: Any) -> GraphModule:
        self.graph.output(results)
        return GraphModule(self.edit.module, self.graph)


def stored_value(edit: GraphEditor, node: Node) -> Any:
    """Of a constant node; weights in codes are decoded."""
    if node.op == "get_attr":
        return edit.constant_value(node)
    arguments = map_arg(node.args, lambda source: edit.constant_value(source))
    assert callable(node.target)
    return node.target(*arguments)


def computed_in_boxes(
    boxes: Boxes, edit: GraphEditor, sources: Mapping[Node, Tensor], result: Node, box: Region
) -> Tensor:
    """The box of `result`, from whole source tensors, in eager torch."""
    tape = TorchTape(edit)
    for node, value in sources.items():
        tape.hold(node, value, whole(shape(node)))
    tape.run(boxes)
    computed: Tensor = tape.operand(result, box)
    return computed
