"""How large every tensor is in the tiles along one dimension, and what a stream keeps between them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.aligned import aligned
from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise, PooledToOne, Reduction
from edgekit.plan.network import Boxes, Network, boxes
from edgekit.plan.region import NEVER, Region, elements

Floats = npt.NDArray[np.float64]
IntSpan = tuple[int, int]


@dataclass(frozen=True)
class TileSizes:
    """Elements of each tensor (rows) in each kind of tile (columns), other dimensions whole.

    Tiles that need no more of anything than another one are left out: no peak is theirs.
    """

    before: Floats
    """Lines that earlier tiles have computed, until the tile computes the tensor."""
    during: Floats
    """From then until its last reader."""
    after: Floats
    """Lines that later tiles read again, from then on."""
    work: Floats
    """Elements that are computed in all tiles together, of each tensor."""

    @property
    def persisting(self) -> frozenset[int]:
        """Rows of tensors of which a stream keeps lines."""
        return frozenset(np.flatnonzero(self.after.any(axis=1)).tolist())


def split(size: int, parts: int) -> list[IntSpan]:
    """Nearly equal spans of `size`, longer ones first; as many as `parts`, or as there are elements."""
    parts = min(parts, size)
    bounds = [-(-size * index // parts) for index in range(parts + 1)]
    return list(pairwise(bounds))


def steps(size: int, parts: int) -> list[IntSpan]:
    """Equal spans of `size` for a stream, the last one shorter; `parts`, or as few as come out."""
    length = -(-size // min(parts, size))
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def along(network: Network, over: Node, dim: int, parts: int, *, streams: bool) -> Region:
    """The tiles of a tensor along one dimension, other dimensions whole."""
    sizes = shape(over)
    spans = split(sizes[dim], parts)
    if not streams:
        spans = aligned(network, over, dim, spans)
    start, stop = (np.array(bounds, dtype=np.int64) for bounds in zip(*spans, strict=True))
    return tuple(
        (start, stop) if position == dim % len(sizes) else (0, size)
        for position, size in enumerate(sizes)
    )


def tile_sizes(
    network: Network, over: Node, dim: int, parts: int, kept: Collection[Node] = ()
) -> TileSizes:
    """Sizes of everything up to `over` in tiles along `dim`, which keep lines of `kept` nodes."""
    found = boxes(network, (), {over: along(network, over, dim, parts, streams=bool(kept))}, kept)
    count = len(split(shape(over)[dim], parts))
    nodes = network.nodes[: network.position[over] + 1]
    during = np.zeros((len(nodes), count))
    after = np.zeros_like(during)
    work = np.zeros(len(nodes))
    for row, node in enumerate(nodes):
        if node not in found.computed:
            continue
        computed = elements(found.computed[node])
        work[row] = computed.sum() if isinstance(computed, np.ndarray) else computed * count
        if is_kept(node, found, kept):
            during[row], after[row] = _kept_elements(found.held[node], count)
        else:
            during[row] = elements(found.held[node])
    before = np.concatenate([np.zeros((len(nodes), 1)), after[:, :-1]], axis=1)
    kinds = largest_columns(np.concatenate([before, during, after]))
    return TileSizes(before[:, kinds], during[:, kinds], after[:, kinds], work)


def lines_needed(span: tuple[Any, Any], count: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Of a dimension of a kept tensor, for each tile: the first line that it or a later one reads,
    the first that a later one reads, and the end of what has been computed then.
    """
    start, stop = (np.broadcast_to(np.asarray(bound, dtype=np.int64), (count,)) for bound in span)
    asked = stop > start
    first = np.where(asked, start, NEVER)
    from_now = np.minimum.accumulate(first[::-1])[::-1]
    later = np.concatenate([from_now[1:], [NEVER]])
    return from_now, later, np.maximum.accumulate(np.where(asked, stop, 0))


def is_kept(node: Node, found: Boxes, kept: Collection[Node]) -> bool:
    """Whether a stream keeps lines of the node: not of what every tile computes whole."""
    return node in kept and any(isinstance(stop, np.ndarray) for _, stop in found.held[node])


def _kept_elements(held: Region, count: int) -> tuple[Floats, Floats]:
    during, after = np.ones(count), np.ones(count)
    for span in held:
        from_now, later, end = lines_needed(span, count)
        during *= np.maximum(end - from_now, 0)
        after *= np.maximum(end - later, 0)
    return during, after


def largest_columns(table: Floats) -> list[int]:
    """Indices of the columns that no other one reaches or exceeds in every row."""
    rows = np.ascontiguousarray(table.T)
    unlike = {row.tobytes(): index for index, row in enumerate(rows)}
    candidates = sorted(unlike.values(), key=lambda index: -float(rows[index].sum()))
    largest: list[int] = []
    for index in candidates:
        if not largest or not (rows[largest] >= rows[index]).all(axis=1).any():
            largest.append(index)
    return largest


def is_symmetric(network: Network) -> bool:
    """Whether rows and columns of every image are treated alike, as far as this can be told.

    True saves half of a search; False is always right.
    """
    images = [node for node in network.nodes if len(shape(node)) == 4 and shape(node)[-1] > 1]
    if not images:
        return False
    last = network.position[images[-1]]
    return all(_is_symmetric(node) for node in network.nodes[: last + 1])


def _is_symmetric(node: Node) -> bool:
    sizes = shape(node)
    if len(sizes) != 4 or sizes[-1] != sizes[-2]:
        return False
    mapping = map_of(node)
    if node.op == "placeholder" or isinstance(mapping, Pointwise | ChannelParameters | PooledToOne):
        return all(
            len(shape(source)) in (0, 4) or shape(source) == (shape(source)[0],)
            for source in node.all_input_nodes
        )
    if isinstance(mapping, Reduction):
        return mapping.reduced(node) == {2, 3}
    windows: Any = getattr(mapping, "windows", None)
    if windows is None:
        return False
    down, across = windows(node)
    return bool(down == across)
