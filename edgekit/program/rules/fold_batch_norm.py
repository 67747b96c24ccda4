"""Fold an inference BatchNorm into the convolution before it, or into one multiply and add.

With s = gamma / sqrt(var + eps), per output channel:

    BN(W * x + b)  =  (s W) * x + (b - mean) s + beta
    BN(x)          =  s x + (beta - mean s)
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
CONVOLUTIONS: dict[Any, int] = {
    aten.conv1d.default: 0,
    aten.conv2d.default: 0,
    aten.conv3d.default: 0,
    aten.conv_transpose2d.input: 1,
}
"""Convolutions, and the axis of their weight that holds output channels."""
TRANSPOSE_GROUPS = 6  # position of `groups` in the arguments of conv_transpose2d


@dataclass(frozen=True)
class BatchNorm:
    source: Node
    scale: Tensor
    """s of the module docstring, one per channel."""
    shift: Tensor
    """beta - mean s."""


class FoldBatchNorm(Rule):
    name = "fold-batch-norm"

    def match(self, node: Node, edit: GraphEditor) -> BatchNorm | None:
        norm = argument(node, 0)
        if node.target is not operator.getitem or argument(node, 1) != 0:
            return None
        if norm.target is not aten._native_batch_norm_legit_no_training.default:
            return None
        gamma, beta, mean, variance = (
            edit.constant_value(part) for part in arguments_of(norm)[1:5]
        )
        if mean is None or variance is None:
            return None
        scale = torch.rsqrt(variance + float(argument(norm, 6)))
        scale = scale if gamma is None else gamma * scale
        shift = -mean * scale if beta is None else beta - mean * scale
        source = argument(norm, 0)
        assert isinstance(source, Node)
        return BatchNorm(source, scale, shift)

    def replace(self, match: BatchNorm, edit: GraphEditor) -> Node:
        conv = match.source
        weight = _weight_to_fold(conv, edit)
        if weight is None:
            shape = [1, -1] + [1] * (len(shape_of(conv)) - 2)
            scale = edit.constant(match.scale.view(shape))
            shift = edit.constant(match.shift.view(shape))
            return edit.call(aten.add.Tensor, edit.call(aten.mul.Tensor, conv, scale), shift)
        shape = [1] * weight.dim()
        shape[CONVOLUTIONS[conv.target]] = -1
        bias = edit.constant_value(argument(conv, 2))
        folded_bias = match.shift if bias is None else bias * match.scale + match.shift
        constants = [edit.constant(weight * match.scale.view(shape)), edit.constant(folded_bias)]
        return edit.call(
            conv.target, argument(conv, 0), *constants, *arguments_of(conv)[3:], **conv.kwargs
        )


def _weight_to_fold(conv: Node, edit: GraphEditor) -> Tensor | None:
    """The weight of a convolution that only this norm reads, else None."""
    if conv.target not in CONVOLUTIONS or len(conv.users) > 1:
        return None
    transposed = CONVOLUTIONS[conv.target] == 1
    if (
        transposed
        and len(arguments_of(conv)) > TRANSPOSE_GROUPS
        and arguments_of(conv)[TRANSPOSE_GROUPS] != 1
    ):
        return None  # a grouped transposed convolution spreads output channels over two axes
    bias = argument(conv, 2)
    if bias is not None and edit.constant_value(bias) is None:
        return None
    return edit.constant_value(argument(conv, 1))
