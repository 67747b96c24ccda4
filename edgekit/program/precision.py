"""A Program that stores and computes in half precision, with float32 at its doors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.program.editing import GraphEditor
from edgekit.program.program import Program

aten = torch.ops.aten


def in_half(program: Program) -> Program:
    """Weights in float16 and a cast behind each float input and before each float output."""
    edit = GraphEditor(program)
    for node in list(edit.graph.nodes):
        value = edit.constant_value(node)
        if value is not None and value.is_floating_point():
            with edit.replacing(node):
                node.replace_all_uses_with(edit.constant(value.half()))
        elif node.op == "placeholder" and _is_float(node.meta["val"]):
            with edit.graph.inserting_after(node):
                cast = edit.call(aten._to_copy.default, node, dtype=torch.float16)
            node.replace_all_uses_with(
                cast, delete_user_cb=lambda user, cast=cast: user is not cast
            )
        elif node.op == "call_function" and _is_float(node.meta["val"]):
            _compute_in_half(node, edit)
        elif node.op == "output":
            with edit.replacing(node):
                for result in list(node.all_input_nodes):
                    if _is_float(result.meta["val"]):
                        cast = edit.call(aten._to_copy.default, result, dtype=torch.float32)
                        node.replace_input_with(result, cast)
    return edit.finish()


def _compute_in_half(node: Node, edit: GraphEditor) -> None:
    """Where single precision begins in the graph: made there (arange), asked for, or of integers."""
    asked = any(value is torch.float32 for value in (*node.args, *node.kwargs.values()))
    if asked:
        halved = {torch.float32: torch.float16}
        node.args = tuple(
            halved.get(value, value) if isinstance(value, torch.dtype) else value
            for value in node.args
        )
        node.kwargs = {
            name: halved.get(value, value) if isinstance(value, torch.dtype) else value
            for name, value in node.kwargs.items()
        }
    elif not node.all_input_nodes:
        node.update_kwarg("dtype", torch.float16)
    elif not any(_is_float(source.meta["val"]) for source in node.all_input_nodes):
        with edit.graph.inserting_after(node):
            cast = edit.call(aten._to_copy.default, node, dtype=torch.float16)
        node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
