"""Biases as floats: Core ML has no codes of 32 bits, and adds a bias in floats."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgekit.program.affine import DEQUANTIZE_CHANNELS
from edgekit.program.editing import GraphEditor, argument
from edgekit.program.program import Program


def with_float_sums(program: Program) -> Program:
    """A program without such biases is returned as it is."""
    if not any(map(_is_sum, program.exported.graph.nodes)):
        return program
    edit = GraphEditor(program)
    for node in list(edit.graph.nodes):
        if not _is_sum(node):
            continue
        codes, scales = (edit.constant_value(argument(node, index)) for index in range(2))
        assert codes is not None
        assert scales is not None
        with edit.replacing(node):
            node.replace_all_uses_with(edit.constant(codes * scales))
    return edit.finish()


def _is_sum(node: Node) -> bool:
    return node.target is DEQUANTIZE_CHANNELS and argument(node, 6) is torch.int32
