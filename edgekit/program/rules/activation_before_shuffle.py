"""Apply an activation before the pixel shuffle instead of after it.

    f(shuffle(x))  =  shuffle(f(x))

for any f of single values: the shuffle only moves them. Runtimes fuse an activation into the
convolution before it, and that convolution stands in front of the shuffle.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
ACTIVATIONS = {
    getattr(aten, name).default
    for name in ("relu", "relu6", "silu", "sigmoid", "tanh", "gelu", "hardswish", "hardsigmoid",
                 "leaky_relu", "elu", "hardtanh", "softplus", "mish", "clamp")
}  # fmt: skip


class ActivationBeforeShuffle(Rule):
    name = "activation-before-shuffle"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        shuffle = argument(node, 0)
        if node.target not in ACTIVATIONS or not isinstance(shuffle, Node):
            return None
        is_alone = shuffle.target is aten.pixel_shuffle.default and len(shuffle.users) == 1
        return node if is_alone else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        shuffle = argument(match, 0)
        activated = edit.call(
            match.target, argument(shuffle, 0), *arguments_of(match)[1:], **match.kwargs
        )
        return edit.call(shuffle.target, activated, argument(shuffle, 1))
