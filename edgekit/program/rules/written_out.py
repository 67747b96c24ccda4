"""Write out operators that coremltools 9.0 takes for something else, or not at all.

    rms_norm(x, w, eps)      =  x * rsqrt(mean(x²) + eps) * w      over the axes of w
    gelu(x, "tanh")          =  x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x³)))
    max_pool(x, kernel)      =  max_pool(x, kernel, stride=kernel)
    hardtanh(x, -7, 8)       =  hardtanh(x, -7.0, 8.0)
    clamp_min(x, 0)          =  clamp_min(x, 0.0)              and clamp_max, of fractions

Its rms_norm needs an epsilon that torch leaves out by default, and its gelu writes EXACT for "tanh".
Its max_pool refuses a stride that is left out; its hardtanh, clamp_min and clamp_max refuse bounds of
fractions that are written as whole numbers.
The norm is then also what `half-safe-rms-norm` looks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten


@dataclass(frozen=True)
class Norm:
    source: Node
    axes: list[int]
    weight: Node | None
    eps: float


class WrittenRMSNorm(Rule):
    name = "written-rms-norm"

    def match(self, node: Node, edit: GraphEditor) -> Norm | None:
        if node.target is not aten.rms_norm.default:
            return None
        source, sizes, weight, eps = (argument(node, index) for index in range(4))
        rank = len(shape_of(source))
        if eps is None:
            eps = torch.finfo(source.meta["val"].dtype).eps
        return Norm(source, list(range(rank - len(sizes), rank)), weight, float(eps))

    def replace(self, match: Norm, edit: GraphEditor) -> Node:
        square = edit.call(aten.mul.Tensor, match.source, match.source)
        mean = edit.call(aten.mean.dim, square, match.axes, True)
        root = edit.call(aten.rsqrt.default, edit.call(aten.add.Tensor, mean, match.eps))
        result = edit.call(aten.mul.Tensor, match.source, root)
        return edit.call(aten.mul.Tensor, result, match.weight) if match.weight else result


class WrittenTanhGelu(Rule):
    name = "written-tanh-gelu"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        tanh = node.target is aten.gelu.default and node.kwargs.get("approximate") == "tanh"
        return node if tanh else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        x = argument(match, 0)
        cube = edit.call(aten.mul.Tensor, edit.call(aten.mul.Tensor, x, x), x)
        inner = edit.call(aten.add.Tensor, x, edit.call(aten.mul.Tensor, cube, 0.044715))
        curve = edit.call(aten.tanh.default, edit.call(aten.mul.Tensor, inner, sqrt(2 / pi)))
        half = edit.call(aten.mul.Tensor, x, 0.5)
        return edit.call(aten.mul.Tensor, half, edit.call(aten.add.Tensor, curve, 1.0))


class WrittenPoolStride(Rule):
    name = "written-pool-stride"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        pools = (aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)
        return node if node.target in pools and not argument(node, 2) else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        source, kernel, *others = arguments_of(match)
        return edit.call(match.target, source, kernel, kernel, *others[1:], **match.kwargs)


class WrittenBounds(Rule):
    name = "written-bounds"

    def match(self, node: Node, edit: GraphEditor) -> Node | None:
        bounded = (aten.hardtanh.default, aten.clamp_min.default, aten.clamp_max.default)
        if node.target not in bounded or not node.meta["val"].is_floating_point():
            return None
        return node if any(isinstance(bound, int) for bound in self._bounds(node)) else None

    def replace(self, match: Node, edit: GraphEditor) -> Node:
        bounds = (float(bound) for bound in self._bounds(match))
        return edit.call(match.target, argument(match, 0), *bounds)

    def _bounds(self, node: Node) -> tuple[float, ...]:
        if node.target is aten.hardtanh.default:
            return argument(node, 1, -1.0), argument(node, 2, 1.0)
        return (argument(node, 1),)
