"""Editing a Program's graph: emit nodes with values and source lines, read and add constants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from edgekit.program.capture import recapture
from edgekit.program.program import Program


class GraphEditor:
    """An unlifted, editable copy of a Program's graph; `finish` makes it a Program again.

    Every node carries its (fake) value in `meta["val"]`, those emitted here included, so that a
    rule can read shapes of what another rule has just written.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        module = program.exported.module(check_guards=False)
        assert isinstance(module, GraphModule)
        self.module = module
        self.graph = module.graph
        self.fake = _mode_of(program)
        self._origin: Node | None = None
        self._constants = 0
        self._free_views()
        self._give_constants_values()

    def _free_views(self) -> None:
        """A view asks for strides that its input no longer has once a rule has reordered that."""
        views = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
        for node in self.graph.nodes:
            if node.target in views:
                node.target = torch.ops.aten.reshape.default

    def _give_constants_values(self) -> None:
        """The graph's operators have the values that they were captured with; constants, new here, have none."""
        for node in self.graph.find_nodes(op="get_attr"):
            node.meta["val"] = self._fake_of(attrgetter(str(node.target))(self.module))

    def _fake_of(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self.fake.from_tensor(value, static_shapes=True)
        return value  # a graph of its own

    @contextmanager
    def replacing(self, node: Node) -> Iterator[None]:
        """Emit before `node`, with its source line and module path."""
        previous, self._origin = self._origin, node
        with self.graph.inserting_before(node):
            yield
        self._origin = previous

    def call(self, operator: Any, *arguments: Any, **options: Any) -> Node:
        node = self.graph.call_function(operator, arguments, options)
        if self._origin is not None:
            node.meta = provenance(self._origin)
        with self.fake, torch.no_grad():
            values = map_arg((arguments, options), lambda argument: argument.meta["val"])
            node.meta["val"] = operator(*values[0], **values[1])
        return node

    def constant(self, value: Tensor) -> Node:
        """A new constant, computed outside the graph."""
        self._constants += 1
        name = f"rewritten_{self._constants}"
        while hasattr(self.module, name):
            self._constants += 1
            name = f"rewritten_{self._constants}"
        self.module.register_buffer(name, value.detach().contiguous())
        node = self.graph.get_attr(name)
        node.meta["val"] = self._fake_of(value)
        return node

    def constant_value(self, node: object) -> Tensor | None:
        """The tensor behind a parameter, buffer or constant node, else None."""
        if not isinstance(node, Node) or node.op != "get_attr":
            return None
        value = attrgetter(str(node.target))(self.module)
        return value.detach() if isinstance(value, Tensor) else None

    def clean(self) -> None:
        self.graph.eliminate_dead_code()

    def finish(self) -> Program:
        self.clean()
        self.module.delete_all_unused_submodules()
        self.module.recompile()
        return recapture(self.module, self.program)


def _mode_of(program: Program) -> FakeTensorMode:
    """The mode of the values in a captured graph: those of other modes cannot be computed with."""
    for node in program.exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return FakeTensorMode()


def provenance(node: Node) -> dict[str, Any]:
    """What a node's metadata says of its place in the module's source."""
    kept = ("stack_trace", "nn_module_stack", "torch_fn")
    return {key: node.meta[key] for key in kept if key in node.meta}


def arguments_of(node: Node) -> tuple[Any, ...]:
    """Positional arguments, whose types the operator's schema knows and torch.fx does not."""
    return tuple(node.args)


def argument(node: Node, index: int, default: Any = None) -> Any:
    """One positional argument, or `default` where the call leaves it out."""
    return node.args[index] if len(node.args) > index else default


def shape_of(node: object) -> tuple[int, ...]:
    """Static shape of a node's value; () for what has none."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else ()
