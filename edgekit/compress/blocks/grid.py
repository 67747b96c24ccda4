"""A weight in blocks. At its last rows and columns, blocks may be smaller."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

Block = tuple[int, int]


def block_sums(values: Tensor, block: Block) -> Tensor:
    """Of numbers O I, by block."""
    high, wide = block
    rows, columns = values.shape
    padded = F.pad(values, (0, -columns % wide, 0, -rows % high))
    return padded.view(-1, high, padded.shape[1] // wide, wide).sum((1, 3))


def spread(of_blocks: Tensor, shape: tuple[int, ...], block: Block) -> Tensor:
    """A number of each block, at all its places."""
    high, wide = block
    whole = of_blocks.repeat_interleave(high, 0).repeat_interleave(wide, 1)
    return whole[: shape[0], : shape[1]]
