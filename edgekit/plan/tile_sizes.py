"""How large every tensor is in the tiles along one dimension, and what a stream keeps between them.

One walk from a tensor to the beginning of its network serves every way to cut one of its dimensions:
the tiles of all of them lie side by side in its arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise, PooledToOne, Reduction
from edgekit.plan.network import Boxes, Network, boxes
from edgekit.plan.region import NEVER, Region, Span

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
IntSpan = tuple[int, int]
LIFT = NEVER << 2
"""Between the bounds of one stream and the next, where several are accumulated in one array."""


@dataclass(frozen=True)
class Cutting:
    """One dimension of a tensor, cut."""

    spans: tuple[IntSpan, ...]
    again: int | None = None
    """None for tiles that keep nothing; of a stream: how many expansions it computes again."""


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
    fresh: Floats
    """Of `during`: what the tile computes itself."""
    work: Floats
    """Elements that are computed in all tiles together, of each tensor."""
    read: Floats
    """Elements that are held in all tiles together."""
    moved: Floats
    """Elements that all tiles together copy to join kept lines to new ones and to hand them on."""
    programs: int
    """Of a stream: unlike steps, those on the way to the steady state and at the end included."""

    @property
    def persisting(self) -> frozenset[int]:
        """Rows of tensors of which a stream keeps lines."""
        return frozenset(np.flatnonzero(self.after.any(axis=1)).tolist())


def split(size: int, parts: int, cell: int = 1) -> list[IntSpan]:
    """Nearly equal spans of `size`, longer ones first; as many as `parts`, or as there are elements.

    They begin at multiples of `cell`, if each is several of them long: fewer of them are unlike.
    """
    parts = min(parts, size)
    cell = cell if size >= FEWEST_CELLS * cell * parts else 1
    each, longer = divmod(-(-size // cell), parts)
    bounds = [cell * (index * each + min(index, longer)) for index in range(parts)]
    return list(pairwise([*bounds, size]))


FEWEST_CELLS = 4
"""In a tile whose bounds are moved to those of cells."""
MOST_CELL = 16
"""A tile's bounds are not moved further than half of so many pixels."""


def cell_of(network: Network, over: Node, dim: int) -> int:
    """How many pixels of `over` along `dim`, -2 or -1, come from one: of all enlargements before it.

    A tile that begins within such a cell crops what it enlarges.
    """
    found = 1
    for node in network.nodes[: network.position[over] + 1]:
        found *= map_of(node).cell(node, dim)
        if found >= MOST_CELL:
            return MOST_CELL
    return found


def steps(size: int, parts: int) -> list[IntSpan]:
    """Equal spans of `size` for a stream, the last one shorter; `parts`, or as few as come out."""
    length = -(-size // min(parts, size))
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def tile_sizes(
    network: Network,
    over: Node,
    dim: int,
    cuttings: Sequence[Cutting],
    numbers: Mapping[Node, float],
) -> list[TileSizes]:
    """Sizes of everything up to `over`, for each way to cut its dimension `dim`.

    `numbers` are those of `expansion_numbers`.
    """
    # Streams last: only their tiles pass lines on.
    order = sorted(range(len(cuttings)), key=lambda index: cuttings[index].again is not None)
    found = _Walk(network, over, dim, [cuttings[index] for index in order], numbers).sizes()
    return [sizes for _, sizes in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]


class _Walk:
    """All tiles of all cuttings in one array, and the spans of everything that they need."""

    def __init__(
        self, network: Network, over: Node, dim: int, cuttings: Sequence[Cutting],
        numbers: Mapping[Node, float],
    ) -> None:  # fmt: skip
        counts = [len(cutting.spans) for cutting in cuttings]
        self.bounds = list(pairwise(np.concatenate([[0], np.cumsum(counts)]).tolist()))
        self.again = np.repeat([inf if c.again is None else c.again for c in cuttings], counts)
        self.first_stream = int(np.isinf(self.again).sum())
        self.streams = _Streams(counts[sum(cutting.again is None for cutting in cuttings) :])
        self._numbers = numbers
        self._kept = {number: self.again < number for number in set(numbers.values())}
        spans = np.array([span for cutting in cuttings for span in cutting.spans], dtype=np.int64)
        tiles: Span = (spans[:, 0].copy(), spans[:, 1].copy())
        region = tuple(
            tiles if position == dim else (0, size) for position, size in enumerate(shape(over))
        )
        nodes = network.nodes[: network.position[over] + 1]
        self._gather(nodes, boxes(network, (), {over: region}, self._fresh))

    def _fresh(self, node: Node, held: Region) -> Region:
        kept = self._kept[self._numbers[node]]
        if not self.streams.count or not kept.any():
            return held
        return tuple(self._not_yet(span, kept) for span in held)

    def _not_yet(self, span: Span, kept: npt.NDArray[np.bool_]) -> Span:
        """Of a span per tile: what lies behind all that earlier tiles of its stream asked for."""
        start, stop = span
        if not isinstance(stop, np.ndarray):
            return span
        at = self.first_stream
        before = np.full(len(stop), -NEVER)
        before[at:] = np.where(kept[at:], self.streams.earlier_largest(stop[at:]), -NEVER)
        first = np.maximum(start, before)
        return first, np.maximum(stop, first)

    def _gather(self, nodes: Sequence[Node], found: Boxes) -> None:
        """What varies from tile to tile, and the number of elements along everything else."""
        self.fixed = np.zeros(len(nodes))
        rows: list[int] = []
        spans: list[tuple[Span, Span, int]] = []
        for row, node in enumerate(nodes):
            if node not in found.held:
                continue
            count = 1
            for span, new, size in zip(
                found.held[node], found.computed[node], shape(node), strict=True
            ):
                if isinstance(span[0], np.ndarray) or isinstance(span[1], np.ndarray):
                    rows.append(row)
                    spans.append((span, new, size))
                else:
                    count *= max(0, int(span[1]) - int(span[0]))
            self.fixed[row] = count
        self.rows = np.array(rows, dtype=np.int64)
        self.held, self.computed = np.empty((2, 2, len(rows), len(self.again)), dtype=np.int64)
        for index, (span, new, _) in enumerate(spans):
            self.held[0, index], self.held[1, index] = span
            self.computed[0, index], self.computed[1, index] = new
        self.extents = np.array([size for _, _, size in spans], dtype=np.int64)
        self.kept = np.array(
            [self._kept[self._numbers[nodes[row]]] for row in rows], dtype=np.bool_
        ).reshape(len(rows), len(self.again))

    def sizes(self) -> list[TileSizes]:
        held, at = self.held, self.first_stream
        read = np.maximum(held[1] - held[0], 0)
        fresh = np.maximum(self.computed[1] - self.computed[0], 0)
        during, after, before = read.copy(), np.zeros_like(read), np.zeros_like(read)
        if self.streams.count and len(self.rows):
            kept = self.kept[:, at:]
            from_now, later, end = self.streams.lines_needed(held[0][:, at:], held[1][:, at:])
            during[:, at:] = np.where(kept, np.maximum(end - from_now, 0), read[:, at:])
            after[:, at:] = np.where(kept, np.maximum(end - later, 0), 0)
            before[:, at:] = self.streams.of_tile_before(after[:, at:])
        likeness = self._likeness(before, during, after, fresh)
        programs = self._programs(during, after, fresh)
        moved = np.where((before > 0) & (fresh > 0), during, 0) + after
        tables = (before, during, after, fresh)
        found = []
        for start, stop in self.bounds:
            part = slice(start, stop)
            kinds = _largest([t[:, part] for t in tables], likeness[part])
            found.append(
                TileSizes(
                    self._of_nodes(before[:, part][:, kinds], 0),
                    self._of_nodes(during[:, part][:, kinds]),
                    self._of_nodes(after[:, part][:, kinds], 0),
                    self._of_nodes(fresh[:, part][:, kinds]),
                    self._total(fresh[:, part]),
                    self._total(read[:, part]),
                    self._total(moved[:, part], 0),
                    len(np.unique(programs[part])),
                )
            )
        return found

    def _of_nodes(self, table: Counts, invariant: int = 1) -> Floats:
        """From extents along one dimension to elements: with those along all others.

        `invariant` is the factor of tensors that are alike in all tiles, of which nothing is kept.
        """
        full: Floats = np.repeat(self._factor(invariant)[:, None], table.shape[1], axis=1)
        np.multiply.at(full, self.rows, table)
        return full

    def _total(self, table: Counts, invariant: int = 1) -> Floats:
        """Elements in all tiles together."""
        total: Floats
        if len(np.unique(self.rows)) < len(self.rows):
            total = self._of_nodes(table, invariant).sum(axis=1)
            return total
        total = self._factor(invariant) * table.shape[1]
        total[self.rows] = self.fixed[self.rows] * table.sum(axis=1)
        return total

    def _factor(self, invariant: int) -> Floats:
        factor = self.fixed * invariant
        factor[self.rows] = self.fixed[self.rows]
        return factor

    def _likeness(self, *tables: Counts) -> Counts:
        """A number for each tile that is the same for equal columns."""
        total = np.zeros(len(self.again), dtype=np.int64)
        random = np.random.default_rng(0)
        for table in tables:
            weights = random.integers(1, 1 << 62, len(table)) | 1
            with np.errstate(over="ignore"):
                total += (table * weights[:, None]).sum(axis=0)
        return total

    def _programs(self, during: Counts, after: Counts, fresh: Counts) -> Counts:
        """A number for each tile: steps of equal lengths at like distances from borders share it."""
        idle = fresh == 0
        start, stop = self.computed
        borders = np.where(idle, 0, 1 + (start == 0) + 2 * (stop == self.extents[:, None]))
        offset = np.where(idle, 0, self.held[1] - stop)
        return self._likeness(during, after, fresh, borders, offset)


class _Streams:
    """Streams side by side in one array: what is accumulated in one does not reach the next."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.count = len(counts)
        self.lift = np.repeat(np.arange(self.count, dtype=np.int64) * LIFT, counts)
        ends = np.cumsum(counts, dtype=np.int64)
        self.firsts, self.lasts = ends - np.array(counts, dtype=np.int64), ends - 1

    def earlier_largest(self, stops: Counts) -> Counts:
        """The largest of all tiles before each one."""
        largest = np.maximum.accumulate(stops + self.lift) - self.lift
        earlier = np.concatenate([[-NEVER], largest[:-1]])
        earlier[self.firsts] = -NEVER
        return earlier

    def lines_needed(self, start: Counts, stop: Counts) -> tuple[Counts, Counts, Counts]:
        """For spans, tensors x tiles: see the function of this name."""
        asked = stop > start
        first = np.where(asked, start, NEVER) + self.lift
        from_now = np.minimum.accumulate(first[:, ::-1], axis=1)[:, ::-1] - self.lift
        later = np.roll(from_now, -1, axis=1)
        later[:, self.lasts] = NEVER
        end = np.maximum.accumulate(np.where(asked, stop, 0) + self.lift, axis=1) - self.lift
        return from_now, later, end

    def of_tile_before(self, table: Counts) -> Counts:
        before = np.roll(table, 1, axis=1)
        before[:, self.firsts] = 0
        return before


def lines_needed(span: tuple[Any, Any], count: int) -> tuple[Counts, Counts, Counts]:
    """Of a dimension of a kept tensor, for each tile: the first line that it or a later one reads,
    the first that a later one reads, and the end of what has been computed then.
    """
    start, stop = (np.broadcast_to(np.asarray(bound, dtype=np.int64), (count,)) for bound in span)
    found = _Streams([count]).lines_needed(start[None], stop[None])
    return found[0][0], found[1][0], found[2][0]


def _largest(tables: Sequence[Counts], likeness: Counts) -> list[int]:
    """Indices of the columns that no other one reaches or exceeds in every row."""
    unlike = np.unique(likeness, return_index=True)[1]
    rows = np.concatenate([table[:, unlike] for table in tables]).T
    largest: list[int] = []
    for index in np.argsort(-rows.sum(axis=1), kind="stable").tolist():
        if not largest or not (rows[largest] >= rows[index]).all(axis=1).any():
            largest.append(index)
    return [int(unlike[index]) for index in largest]


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
