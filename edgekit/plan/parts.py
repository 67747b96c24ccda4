"""One tensor a node: split, chunk and unbind become the slices that their parts are."""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import shape
from edgekit.program.editing import GraphEditor

aten = torch.ops.aten
SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.split.sizes,
    aten.chunk.default,
    aten.unsafe_chunk.default,
    aten.unsafe_split.Tensor,
    aten.tensor_split.sections,
}
UNBINDS = {aten.unbind.int}


def name_parts(edit: GraphEditor) -> None:
    """Replace each part of a split tensor by a slice, and each part of an unbound one by a select."""
    for node in list(edit.graph.nodes):
        if node.target not in SPLITS | UNBINDS:
            continue
        source: Any = node.args[0]
        dim: Any = node.args[-1] if node.target in UNBINDS and len(node.args) > 1 else None
        for user in [user for user in node.users if user.target is getitem]:
            index: Any = user.args[1]
            with edit.replacing(user):
                if node.target in UNBINDS:
                    part = edit.call(aten.select.int, source, dim or 0, index)
                else:
                    part = _slice(edit, node, source, index)
            user.replace_all_uses_with(part)
    edit.clean()


def _slice(edit: GraphEditor, node: Node, source: Node, index: int) -> Node:
    values: Any = node.meta["val"]
    dim: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    dim %= len(shape(source))
    sizes = [int(value.shape[dim]) for value in values]
    start = sum(sizes[:index])
    return edit.call(aten.slice.Tensor, source, dim, start, start + sizes[index])
