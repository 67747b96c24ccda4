"""Normalise in a form that half precision can hold.

Per group of values v, with m = max(max |v|, sqrt(eps), 2^-14) and u = v / m:

    v / sqrt(mean(v²) + eps)  =  u / sqrt(mean(u²) + (sqrt(eps) / m)²)

All of |u| is at most 1 and one of them is 1 (or v is below sqrt(eps) or 2^-14), so no square overflows and
the sum under the root stays at or above 1/n for n values: eps 1e-8, which rounds to 0 in half
precision and turns an all-zero group into NaN, is never added as such. LayerNorm and GroupNorm
subtract their mean first and are else the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
SMALLEST_NORMAL_HALF = 2.0**-14  # 6.1e-5; below it digits are lost, and many units flush to zero


def _why_not(eps: float) -> str | None:
    if eps >= SMALLEST_NORMAL_HALF:
        return f"epsilon {eps:g} is a normal number in half precision"
    return None


def _normalised(edit: GraphEditor, values: Node, axes: list[int], eps: float) -> Node:
    """`values` / root mean square over `axes`, in the form above."""
    floor = sqrt(eps)
    peak = edit.call(aten.amax.default, edit.call(aten.abs.default, values), axes, True)
    peak = edit.call(aten.clamp_min.default, peak, max(floor, SMALLEST_NORMAL_HALF))
    unit = edit.call(aten.div.Tensor, values, peak)
    power = edit.call(aten.mean.dim, edit.call(aten.mul.Tensor, unit, unit), axes, True)
    root = edit.constant(torch.tensor(floor, dtype=values.meta["val"].dtype))
    ratio = edit.call(aten.div.Tensor, root, peak)
    floored = edit.call(aten.add.Tensor, power, edit.call(aten.mul.Tensor, ratio, ratio))
    return edit.call(aten.mul.Tensor, unit, edit.call(aten.rsqrt.default, floored))


@dataclass(frozen=True)
class RootMeanSquare:
    source: Node
    axes: list[int]
    eps: float


class HalfSafeRMSNorm(Rule):
    """x * rsqrt(mean(x²) + eps), written out by hand as video decoders do."""

    name = "half-safe-rms-norm"

    def match(self, node: Node, edit: GraphEditor) -> RootMeanSquare | None:
        if node.target is not aten.mul.Tensor:
            return None
        for source, root in (arguments_of(node)[:2], arguments_of(node)[1::-1]):
            found = _mean_square_of(root)
            if found is not None and found.source is source:
                return found
        return None

    def why_not(self, match: RootMeanSquare) -> str | None:
        return _why_not(match.eps)

    def replace(self, match: RootMeanSquare, edit: GraphEditor) -> Node:
        return _normalised(edit, match.source, match.axes, match.eps)


def _mean_square_of(root: object) -> RootMeanSquare | None:
    """Follow rsqrt <- add eps <- mean <- pow 2 (or x * x) to x."""
    if not isinstance(root, Node) or root.target is not aten.rsqrt.default:
        return None
    added = argument(root, 0)
    if not isinstance(added, Node) or added.target not in (aten.add.Tensor, aten.add.Scalar):
        return None
    mean, eps = arguments_of(added)[:2]
    if not isinstance(mean, Node) or mean.target is not aten.mean.dim:
        return None
    square, axes = arguments_of(mean)[:2]
    keep = argument(mean, 2, mean.kwargs.get("keepdim", False))
    if not isinstance(square, Node) or not isinstance(eps, float) or not keep:
        return None
    alpha = added.kwargs.get("alpha", 1)
    if not isinstance(alpha, int | float):
        return None
    eps = eps * alpha
    is_square = (square.target is aten.pow.Tensor_Scalar and argument(square, 1) == 2) or (
        square.target is aten.mul.Tensor and argument(square, 0) is argument(square, 1)
    )
    source = argument(square, 0)
    if not is_square or not isinstance(source, Node):
        return None
    return RootMeanSquare(source, [int(axis) for axis in axes], eps)


@dataclass(frozen=True)
class MeanAndScale:
    source: Node
    groups: int
    """0: LayerNorm over the last `axes` axes; else GroupNorm."""
    axes: int
    weight: Node | None
    bias: Node | None
    eps: float


class HalfSafeLayerNorm(Rule):
    """LayerNorm and GroupNorm whose epsilon half precision cannot hold."""

    name = "half-safe-layer-norm"

    def match(self, node: Node, edit: GraphEditor) -> MeanAndScale | None:
        if node.target not in (aten.layer_norm.default, aten.group_norm.default):
            return None
        grouped = node.target is aten.group_norm.default
        source, size, weight, bias = (argument(node, index) for index in range(4))
        eps = argument(node, 4, 1e-5)
        assert isinstance(source, Node)
        return MeanAndScale(
            source,
            int(size) if grouped else 0,
            0 if grouped else len(size),
            weight if isinstance(weight, Node) else None,
            bias if isinstance(bias, Node) else None,
            float(eps),
        )

    def why_not(self, match: MeanAndScale) -> str | None:
        return _why_not(match.eps)

    def replace(self, match: MeanAndScale, edit: GraphEditor) -> Node:
        shape = shape_of(match.source)
        x, weight, bias = match.source, match.weight, match.bias
        if match.groups:
            x = edit.call(aten.reshape.default, x, [shape[0], match.groups, -1])
            axes = [2]
            affine_shape = [1, shape[1]] + [1] * (len(shape) - 2)
        else:
            axes = list(range(len(shape) - match.axes, len(shape)))
            affine_shape = list(shape[-match.axes :])
        centred = edit.call(aten.sub.Tensor, x, edit.call(aten.mean.dim, x, axes, True))
        y = _normalised(edit, centred, axes, match.eps)
        if match.groups:
            y = edit.call(aten.reshape.default, y, list(shape))
        if weight is not None:
            weight = edit.call(aten.reshape.default, weight, affine_shape)
            y = edit.call(aten.mul.Tensor, y, weight)
        if bias is not None:
            y = edit.call(aten.add.Tensor, y, edit.call(aten.reshape.default, bias, affine_shape))
        return y
