"""GroupNorm of a video tensor at rank 4.

Statistics run over channels of a group and every pixel of every frame, in whatever order:

    GN(x of N C T H W)  =  GN(x seen as N C (T·H) W) seen as N C T H W

coremltools lowers GroupNorm by adding an axis, and Core ML allows five.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten


class GroupNormAtRank4(Rule):
    name = "group-norm-rank-4"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        is_video = node.target is aten.group_norm.default and len(shape_of(node)) == 5
        return node if is_video else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        n, c, t, h, w = shape_of(match)
        flat = edit.call(aten.reshape.default, argument(match, 0), [n, c, t * h, w])
        normed = edit.call(match.target, flat, *arguments_of(match)[1:], **match.kwargs)
        return edit.call(aten.reshape.default, normed, [n, c, t, h, w])
