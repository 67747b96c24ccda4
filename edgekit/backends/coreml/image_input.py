"""Pictures of bytes as Core ML takes them: an image, whose values are numbers from 0 to 255 inside."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgekit.program.capture import capture_graph
from edgekit.program.editing import GraphEditor
from edgekit.program.program import Program


def without_bytes(program: Program) -> Program:
    """The Program with float32 in place of its uint8 inputs; coremltools 9.0 reads no such tensors."""
    if not any(spec.dtype == "uint8" for spec in program.inputs):
        return program
    edit = GraphEditor(program)
    for node in edit.graph.find_nodes(op="placeholder"):
        if node.meta["val"].dtype != torch.uint8:
            continue
        for reader in list(node.users):
            if reader.target is torch.ops.aten._to_copy.default:
                reader.replace_all_uses_with(node)
    edit.clean()
    edit.module.recompile()
    inputs = tuple(
        replace(spec, dtype="float32") if spec.dtype == "uint8" else spec for spec in program.inputs
    )
    return capture_graph(edit.module, inputs, program.outputs)
