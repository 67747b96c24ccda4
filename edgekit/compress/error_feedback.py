"""Rounding of one weight after the other, where those that are left make good for the errors of those before.

    min over codes of  |y - s codes x'|²  =  sum over outputs of  (V - s codes) H (V - s codes)^T + const
    H = sum x' x'^T,    V = W + (sum (y - W x') x'^T) H^-1

for each output channel by itself, its weights in a fixed order: what rounding the first leaves is spread over the
rest as the inverse of H says, which is exact for a sum of squares (GPTQ, arXiv 2210.17323, after Optimal Brain
Surgeon). y is what the layer gives in floats, x' what the layers before give in codes already, both less their
means, which the bias holds: V makes good for the errors before it. No gradients and no steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.compress.decided import LayerCodes
from edgekit.compress.places import Layer, aten
from edgekit.compress.statistics_restored import restored
from edgekit.program.editing import argument

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: a few inputs say nothing of some directions."""
MOST_ROWS = 1 << 15
"""Places of an input's picture, over all inputs, that H is summed over."""


@dataclass(frozen=True)
class ErrorFeedback:
    original: dict[str, Tensor]
    """Weights in floats, by layer's name."""

    def __call__(
        self, layer: Layer, codes: LayerCodes, given: list[Tensor], wanted: list[Tensor]
    ) -> LayerCodes:
        """With its statistics restored afterwards. Layers that are no products of patches keep their rounding."""
        if layer.node.target not in (aten.conv2d.default, aten.linear.default):
            return restored(layer, codes, given, wanted)
        weight = self.original[layer.name]
        groups = 1 if layer.node.target is aten.linear.default else int(argument(layer.node, 6, 1))
        rows = weight.double().reshape(groups, -1, weight[0].numel())
        scales = codes.weight.scales.double().reshape(groups, -1)
        with torch.no_grad():
            sums = _sums(layer, rows, given, wanted, tuple(weight.shape))
            whole = _rounded(rows, scales, sums, codes.weight.most).reshape(weight.shape)
        fitted = replace(codes, weight=replace(codes.weight, codes=whole.to(torch.int8)))
        return restored(layer, fitted, given, wanted)


@dataclass(frozen=True)
class _Sums:
    """Over places and inputs, for K inputs and taps and O outputs of each group."""

    hessian: Tensor
    """groups K K."""
    missing: Tensor
    """groups O K: of what the weights in floats lack."""


def _sums(
    layer: Layer, rows: Tensor, given: list[Tensor], wanted: list[Tensor], shape: tuple[int, ...]
) -> _Sums:
    groups, outputs = rows.shape[:2]
    most = max(1, MOST_ROWS // len(given))
    patches, results = [], []
    for value, result in zip(given, wanted, strict=True):
        read = _patches(layer, value, groups, shape)
        made = result.movedim(layer.channels_axis, 0).reshape(groups, outputs, -1)
        step = max(1, read.shape[2] // most)
        patches.append(read[:, :, ::step])
        results.append(made[:, :, ::step])
    read, made = (torch.cat(parts, 2) for parts in (patches, results))
    read, made = (part - part.mean(2, keepdim=True) for part in (read, made))
    rest = made - rows.float() @ read
    across = read.transpose(1, 2)
    return _Sums((read @ across).double(), (rest @ across).double())


def _patches(layer: Layer, value: Tensor, groups: int, shape: tuple[int, ...]) -> Tensor:
    """groups K places."""
    if layer.node.target is aten.linear.default:
        return value.flatten(0, -2).T[None]
    stride, padding, dilation = (
        argument(layer.node, place, usual) for place, usual in ((3, 1), (4, 0), (5, 1))
    )
    columns = F.unfold(value, shape[2:], dilation=dilation, padding=padding, stride=stride)
    columns = columns.transpose(0, 1).flatten(1)
    return columns.reshape(groups, -1, columns.shape[1])


def _rounded(rows: Tensor, scales: Tensor, sums: _Sums, most: int) -> Tensor:
    """Codes, groups O K, of rows in floats."""
    diagonal = sums.hessian.diagonal(dim1=1, dim2=2)
    added = (DAMPING * diagonal.mean(1, keepdim=True) + 1e-12).expand_as(diagonal)
    order = torch.argsort(diagonal.mean(0), descending=True)
    inverse = torch.linalg.inv(sums.hessian + torch.diag_embed(added))
    left = (rows + sums.missing @ inverse)[:, :, order]
    inverse = inverse[:, order][:, :, order]
    factor = torch.linalg.cholesky((inverse + inverse.transpose(1, 2)) / 2, upper=True)
    codes = torch.empty_like(left)
    for place in range(left.shape[2]):
        column = left[:, :, place]
        codes[:, :, place] = torch.round(column / scales).clamp(-most, most)
        error = (column - codes[:, :, place] * scales) / factor[:, place, place, None]
        left[:, :, place:] -= error[:, :, None] * factor[:, None, place, place:]
    return codes[:, :, torch.argsort(order)]
