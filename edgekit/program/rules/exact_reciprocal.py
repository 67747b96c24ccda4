"""Write 1/x as a division.

    reciprocal(x)  =  1 / x

coremltools 9.0 lowers reciprocal to MIL's `inverse` with its default epsilon: 1 / (x + 1e-4)
(coremltools#2773).
"""

from __future__ import annotations

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument
from edgekit.program.rule import Rule

aten = torch.ops.aten


class ReciprocalAsDivision(Rule):
    name = "exact-reciprocal"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        return node if node.target is aten.reciprocal.default else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        return edit.call(aten.div.Tensor, edit.constant(torch.tensor(1.0)), argument(match, 0))
