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
from edgekit.compress.weight_codes import weight_codes
from edgekit.program.affine import Affine
from edgekit.program.editing import GraphEditor, argument, shape_of

aten = torch.ops.aten
MOST_ROWS = 4096
"""Of a norm's results, that a change is judged by."""
LEVELS = 255
LEAST_SHARE = 0.01
"""Of the mean range: a channel that is narrower counts as so wide, since its factor would be huge."""


@dataclass(frozen=True)
class _Even:
    """What makes a norm's channels alike."""

    factor: Tensor
    """r of the module docstring, one per channel."""
    offset: Tensor
    """b."""

    def of(self, rows: Tensor) -> Tensor:
        return rows / self.factor - self.offset


def even_norms(
    edit: GraphEditor, data: Sequence[tuple[Tensor, ...]], weight_bits: int
) -> list[Node]:
    """Change norms that only products with stored weights read, and return them.

    Where a channel is large and so are its weights, they only become larger: a norm is left alone
    if codes of its products come no nearer on the data.
    """
    norms = [node for node in edit.graph.nodes if _fits(node, edit)]
    seen: dict[Node, list[Tensor]] = {norm: [] for norm in norms}
    if norms:
        with torch.no_grad():
            watched = Watched(edit.module, norms, lambda n, x: seen[n].append(x.flatten(0, -2)))
            for inputs in data:
                watched.run(*inputs)
    changed = []
    for norm in norms:
        rows = torch.cat(seen[norm])[:MOST_ROWS]
        even = _even(rows)
        if _pays(edit, norm, rows, even, weight_bits):
            _change(edit, norm, even)
            changed.append(norm)
    return changed


def _even(rows: Tensor) -> _Even:
    low, high = rows.amin(0), rows.amax(0)
    scales = (high - low) / LEVELS
    scales = scales.clamp_min(LEAST_SHARE * float(scales.mean()) + 1e-12)
    factor = scales / scales.mean()
    return _Even(factor, low / factor + torch.round(-low / scales).mean() * scales.mean())


def _pays(edit: GraphEditor, norm: Node, rows: Tensor, even: _Even, weight_bits: int) -> bool:
    plain = changed = 0.0
    for product in norm.users:
        weight = edit.constant_value(argument(product, 1))
        assert weight is not None
        plain += _error(rows, weight, weight_bits)
        changed += _error(even.of(rows), weight * even.factor, weight_bits)
    return changed < plain


def _error(rows: Tensor, weight: Tensor, weight_bits: int) -> float:
    """Of a product of codes."""
    affine = Affine.of_range(float(rows.min()), float(rows.max()))
    codes = weight_codes(weight, 0, weight_bits, "largest")
    return float((affine.rounded(rows) @ codes.values().T - rows @ weight.T).square().mean())


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


def _change(edit: GraphEditor, norm: Node, even: _Even) -> None:
    gamma, beta = (edit.constant_value(argument(norm, index)) for index in (2, 3))
    assert gamma is not None
    assert beta is not None
    with edit.replacing(norm):
        norm.update_arg(2, edit.constant(gamma / even.factor))
        norm.update_arg(3, edit.constant(beta / even.factor - even.offset))
    for product in list(norm.users):
        weight = edit.constant_value(argument(product, 1))
        bias = edit.constant_value(argument(product, 2))
        assert weight is not None
        taken = weight * even.factor
        added = taken @ even.offset if bias is None else bias + taken @ even.offset
        with edit.replacing(product):
            arguments = (product.args[0], edit.constant(taken), edit.constant(added))
        product.args = arguments
