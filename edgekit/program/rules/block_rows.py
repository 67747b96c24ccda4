"""Multiply only the blocks of a linear layer's weight that are not zeros.

    x W' = [x[S1] W1', x[S2] W2', ...]        where W = [W1; W2; ...] in bands of rows
                                              and Sk are the columns at which band k has a block that is not zeros

A band is a dense product of the columns that it needs: runtimes without kernels for sparse weights leave the rest
out so, and the file does not hold it. Where three quarters of the blocks are zeros, onnxruntime takes 0.5 to 0.65 of
the dense layer's time; where half are, 0.7 to about 1 (`benchmarks/block_products.py`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional as F

from edgekit.program.editing import GraphEditor, argument, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
SIDES = (64, 32, 16)
"""Of blocks that are looked for; with smaller ones there are too many products."""
LEAST_ZEROS = 0.3
"""Share of a weight's blocks, below which it is a dense one."""
MACS_OF_A_NODE = 100_000
MACS_OF_A_BYTE = 3
"""That are worth running a node, and copying a byte, in onnxruntime on one thread."""
LEAST_GAIN = 0.1
"""Of the dense layer's work."""


@dataclass(frozen=True)
class Band:
    first: int
    last: int
    """Rows of the weight: from `first` to before `last`."""
    blocks: tuple[int, ...]
    """Columns of blocks that it needs."""


@dataclass(frozen=True)
class BlockSparse:
    node: Node
    weight: Tensor
    wide: int
    """Columns of a block."""
    bands: tuple[Band, ...]

    @property
    def rows(self) -> int:
        """That the layer runs on."""
        return prod(shape_of(self.node)[:-1])

    @property
    def needed(self) -> int:
        """Columns that are read, summed over bands."""
        return sum(len(band.blocks) * self.wide for band in self.bands)


class BlockRows(Rule):
    name = "block-rows"

    def match(self, node: Node, edit: GraphEditor) -> BlockSparse | None:
        if node.target is not aten.linear.default:
            return None
        weight = edit.constant_value(argument(node, 1))
        if weight is None or bool(weight.all()):
            return None
        found = _in_bands(weight)
        return None if found is None else BlockSparse(node, weight, *found)

    def why_not(self, match: BlockSparse) -> str | None:
        dense = match.rows * match.weight.numel()
        products = sum(
            (band.last - band.first) * len(band.blocks) * match.wide for band in match.bands
        )
        copied = 4 * match.rows * match.needed
        nodes = 2 * len(match.bands) + 2
        work = match.rows * products + MACS_OF_A_BYTE * copied + MACS_OF_A_NODE * nodes
        if work > (1 - LEAST_GAIN) * dense:
            return f"{len(match.bands)} products of blocks would take about {work / dense:.0%} of the dense one"
        return None

    def replace(self, match: BlockSparse, edit: GraphEditor) -> Node:
        x, bias = argument(match.node, 0), argument(match.node, 2)
        columns = match.weight.shape[1]
        sizes = [min(match.wide, columns - at) for at in range(0, columns, match.wide)]
        split = edit.call(aten.split_with_sizes.default, x, sizes, -1)
        parts = {
            block: edit.call(operator.getitem, split, block)
            for block in sorted({block for band in match.bands for block in band.blocks})
        }
        made = [self._product(match, band, parts, edit) for band in match.bands]
        whole = made[0] if len(made) == 1 else edit.call(aten.cat.default, made, -1)
        return whole if bias is None else edit.call(aten.add.Tensor, whole, bias)

    @staticmethod
    def _product(match: BlockSparse, band: Band, parts: dict[int, Node], edit: GraphEditor) -> Node:
        given = [parts[block] for block in band.blocks]
        x = given[0] if len(given) == 1 else edit.call(aten.cat.default, given, -1)
        rows, wide = match.weight[band.first : band.last], match.wide
        weight = torch.cat([rows[:, b * wide : (b + 1) * wide] for b in band.blocks], 1)
        return edit.call(aten.linear.default, x, edit.constant(weight))


def _in_bands(weight: Tensor) -> tuple[int, tuple[Band, ...]] | None:
    """By the largest blocks whose zeros are about all there are; None for a weight that is dense."""
    zeros = float((weight == 0).double().mean())
    if zeros < LEAST_ZEROS:
        return None
    for high in SIDES:
        for wide in SIDES:
            used = _used(weight, high, wide)
            if 1 - float(used.double().mean()) >= max(LEAST_ZEROS, 0.9 * zeros):
                return wide, _bands(used, high, len(weight))
    return None


def _used(weight: Tensor, high: int, wide: int) -> Tensor:
    rows, columns = weight.shape
    padded = F.pad((weight != 0).float(), (0, -columns % wide, 0, -rows % high))
    return padded.view(-1, high, padded.shape[1] // wide, wide).amax((1, 3)).bool()


def _bands(used: Tensor, high: int, rows: int) -> tuple[Band, ...]:
    """Neighbours that need the same columns are one; a band of zeros has one block of them."""
    found: list[Band] = []
    for index, row in enumerate(used):
        blocks = tuple(int(block) for block in row.nonzero().flatten()) or (0,)
        first, last = index * high, min((index + 1) * high, rows)
        if found and found[-1].blocks == blocks:
            found[-1] = Band(found[-1].first, last, blocks)
        else:
            found.append(Band(first, last, blocks))
    return tuple(found)
