"""Write SiLU with operators that integer kernels know; quantisation asks for it.

    silu(x)  =  x * sigmoid(x)

A sigmoid of codes is a table of 256 entries.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument
from edgekit.program.rule import Rule

aten = torch.ops.aten


class WrittenSilu(Rule):
    name = "written-silu"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        return node if node.target is aten.silu.default else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        x = argument(match, 0)
        return edit.call(aten.mul.Tensor, x, edit.call(aten.sigmoid.default, x))
