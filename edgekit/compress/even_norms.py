"""Channels of a LayerNorm made alike, so that one scale serves them all (RepQ-ViT, arXiv 2212.08254).

With s the scale and z the zero of each channel's own range, s' and z' their means, r = s / s' and
b = low / r + z' s':

    y' = y / r - b              gamma' = gamma / r,    beta' = beta / r - b
    W y + c  =  (W r) y' + (c + (W r) b)

Exact in floats: the next products take what the norm gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.compress.calibration import Watched
from edgekit.program.affine import along
from edgekit.program.editing import GraphEditor, argument, shape_of

aten = torch.ops.aten
LEVELS = 255
LEAST_SHARE = 0.01
"""Of the mean range: a channel that is narrower counts as so wide, since its factor would be huge."""


@dataclass
class _Range:
    low: Tensor
    high: Tensor


def even_norms(edit: GraphEditor, data: Sequence[tuple[Tensor, ...]]) -> int:
    """Change norms that only products with stored weights read; returns how many."""
    norms = [node for node in edit.graph.nodes if _fits(node, edit)]
    if not norms:
        return 0
    ranges: dict[Node, _Range] = {}

    def observe(node: Node, value: Tensor) -> None:
        rows = value.flatten(0, -2)
        low, high = rows.amin(0), rows.amax(0)
        before = ranges.get(node)
        if before is not None:
            low, high = torch.minimum(low, before.low), torch.maximum(high, before.high)
        ranges[node] = _Range(low, high)

    with torch.no_grad():
        watched = Watched(edit.module, norms, observe)
        for inputs in data:
            watched.run(*inputs)
    for norm in norms:
        _change(edit, norm, ranges[norm])
    return len(norms)


def _fits(node: Node, edit: GraphEditor) -> bool:
    if node.target is not aten.layer_norm.default or argument(node, 1) != [shape_of(node)[-1]]:
        return False
    parameters = [edit.constant_value(argument(node, index)) for index in (2, 3)]
    return all(value is not None for value in parameters) and all(
        user.target is aten.linear.default
        and argument(user, 0) is node
        and edit.constant_value(argument(user, 1)) is not None
        for user in node.users
    )


def _change(edit: GraphEditor, norm: Node, seen: _Range) -> None:
    scales = (seen.high - seen.low) / LEVELS
    scales = scales.clamp_min(LEAST_SHARE * float(scales.mean()) + 1e-12)
    zeros = torch.round(-seen.low / scales)
    factor = scales / scales.mean()
    offset = seen.low / factor + zeros.mean() * scales.mean()
    gamma, beta = (edit.constant_value(argument(norm, index)) for index in (2, 3))
    assert gamma is not None
    assert beta is not None
    with edit.replacing(norm):
        norm.update_arg(2, edit.constant(gamma / factor))
        norm.update_arg(3, edit.constant(beta / factor - offset))
    for product in list(norm.users):
        weight = edit.constant_value(argument(product, 1))
        bias = edit.constant_value(argument(product, 2))
        assert weight is not None
        taken = weight * along(factor, weight, 1)
        added = taken @ offset if bias is None else bias + taken @ offset
        with edit.replacing(product):
            arguments = (product.args[0], edit.constant(taken), edit.constant(added))
        product.args = arguments
