"""Several outputs as one: plans end in one tensor, of which a detector's boxes and scores are columns."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch.fx import Node
from torch.fx.graph import CodeGen

from edgekit.contract import TensorSpec
from edgekit.program.capture import capture_graph
from edgekit.program.editing import GraphEditor
from edgekit.program.program import Program

JOINED = "joined_outputs"
Columns = Mapping[str, tuple[int, int]]
"""Start and stop along the last dimension of the joined tensor, by output."""


def joined(program: Program) -> tuple[Program, Columns]:
    """The outputs side by side along their last dimension; as it is, where that cannot be done.

    It can where they have one type, and one shape up to the last dimension.
    """
    outputs = program.outputs
    alike = {(spec.shape[:-1], spec.dtype) for spec in outputs}
    if len(outputs) < 2 or len(alike) > 1 or any(len(spec.shape) < 2 for spec in outputs):
        return program, {}
    stops = list(accumulate(spec.shape[-1] for spec in outputs))
    columns = {
        spec.name: (stop - spec.shape[-1], stop) for spec, stop in zip(outputs, stops, strict=True)
    }
    edit = GraphEditor(program)
    (end,) = edit.graph.find_nodes(op="output")
    results: Any = end.args[0]
    last = len(outputs[0].shape) - 1
    with edit.graph.inserting_before(end):
        whole = edit.call(torch.ops.aten.cat.default, list(results), last)
    _return(edit, (whole,))
    shape = (*outputs[0].shape[:-1], stops[-1])
    spec = TensorSpec(JOINED, shape, outputs[0].dtype, meaning=" and ".join(columns))
    return capture_graph(edit.module, program.inputs, (spec,)), columns


def _return(edit: GraphEditor, results: tuple[Node, ...]) -> None:
    """End the graph with these, whatever structure its results had before."""
    (end,) = edit.graph.find_nodes(op="output")
    end.args = (results,)
    edit.graph.set_codegen(CodeGen())
    edit.clean()
    edit.module.recompile()


def divided(program: Program, columns: Columns, outputs: tuple[TensorSpec, ...]) -> Program:
    """The joined Program with the outputs that it was joined of."""
    edit = GraphEditor(program)
    (end,) = edit.graph.find_nodes(op="output")
    (whole,) = end.all_input_nodes
    last = len(program.outputs[0].shape) - 1
    with edit.graph.inserting_before(end):
        parts = tuple(
            edit.call(torch.ops.aten.slice.Tensor, whole, last, *columns[spec.name])
            for spec in outputs
        )
    _return(edit, parts)
    return capture_graph(edit.module, program.inputs, outputs)
