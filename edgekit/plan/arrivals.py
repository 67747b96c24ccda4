"""What every tiling of one tensor needs, for each cut that a stretch to it could begin at.

Sizes along rows, columns and frames are found apart: a box holds the product of their shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.frames import FrameAxis
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, macs_per_element
from edgekit.plan.network import Network
from edgekit.plan.path import Tiling, tile_spans
from edgekit.plan.tile_memory import TileBytes, TileMemory
from edgekit.plan.tile_sizes import Cutting, TileSizes, tile_sizes

Floats = npt.NDArray[np.float64]
COPY_MACS_PER_BYTE = 10.0
"""A window's input and output are copied at about 5 GB/s where convolutions run at 55 GMAC/s
(benchmarks/plan_costs.py, as for the next one)."""
JOIN_MACS_PER_BYTE = 25.0
"""Kept lines are joined to new ones and cut off again in plain order, so that convolutions leave and enter
their blocked layout: unet-c16 at 1024x1024 as 16 steps of 64 rows took 1.36 times the whole's time at
no multiplication more."""
RUN_MACS = 6.5e6
"""Starting one more run of a model takes about 0.12 ms."""
MOST_PROGRAMS = 12
"""Of a stream whose steps are runs of models."""
Key = tuple[int, int, bool, int]
"""Dimension, number of parts, whether it streams, expansions that are computed again."""
_Kept = frozenset[int] | None
"""Rows of nodes of which a stream keeps lines; None for tiles."""


@dataclass(frozen=True)
class Costs:
    """Of tilings (rows), for each source (columns)."""

    tilings: tuple[Tiling, ...]
    run_bytes: Floats
    macs: Floats
    cost: Floats


class Arrivals:
    """Tilings of `over`, on whose way `result` may be a mean of it."""

    def __init__(
        self,
        network: Network,
        model: MemoryModel,
        result: Node,
        over: Node,
        axis: FrameAxis | None,
        numbers: Mapping[Node, float],
        *,
        symmetric: bool = False,
    ) -> None:
        self.network, self.model, self.result, self.over = network, model, result, over
        self.axis, self._numbers, self._symmetric = axis, numbers, symmetric
        self.count = network.position[over] + 1
        self.nodes = network.nodes[: self.count]
        self.bytes = np.array([model.bytes_per_element(node) for node in self.nodes], np.float64)
        self._sizes: dict[Key, TileSizes] = {}
        self._memory: dict[tuple[_Kept, tuple[Node, ...]], TileMemory] = {}

    @cached_property
    def _rank(self) -> int:
        return len(shape(self.over))

    def measure(self, tilings: Iterable[Tiling]) -> None:
        """Walk through the network once for each dimension that some tiling cuts."""
        whole: Key = (self._rank - 2, 1, False, 0)
        wanted = {whole} | {key for tiling in tilings for key in self._keys(tiling)}
        for dim in {key[0] for key in wanted}:
            keys = sorted(key for key in wanted if key[0] == dim and key not in self._sizes)
            cuttings = [self._cutting(key) for key in keys]
            if keys:
                found = tile_sizes(self.network, self.over, dim, cuttings, self._numbers)
                self._sizes.update(zip(keys, found, strict=True))
        # Of all that `over` needs, which may be less than all there is: the last line of an image
        # is none of a stride's.
        self.needed = np.maximum(1.0, self._sizes[whole].during[:, 0])

    def _keys(self, tiling: Tiling) -> list[Key]:
        """Ways to cut one dimension, the one that streams first."""
        keys: list[tuple[str, Key]] = []
        across = self._rank - (2 if self._symmetric else 1)
        for name, dim, parts in (
            ("rows", self._rank - 2, tiling.rows), ("columns", across, tiling.columns),
        ):  # fmt: skip
            if parts > 1:
                streams = tiling.stream == name
                keys.append((name, (dim, parts, streams, tiling.again if streams else 0)))
        if self.axis is not None and tiling.frames > 1:
            streams = tiling.stream == "frames"
            again = tiling.again if streams else 0
            keys.append(("frames", (self.axis.dim, tiling.frames, streams, again)))
        keys.sort(key=lambda named: named[0] != tiling.stream)
        return [key for _, key in keys]

    def _cutting(self, key: Key) -> Cutting:
        dim, parts, streams, again = key
        if parts == 1:
            return Cutting(((0, shape(self.over)[dim]),))
        name = {self._rank - 2: "rows", self._rank - 1: "columns"}.get(dim, "frames")
        alone = Tiling(**{name: parts}, stream=name if streams else "")  # type: ignore[arg-type]
        spans = tile_spans(self.network, self.over, alone, self.axis)[dim]
        return Cutting(tuple(spans), again if streams else None)

    def is_written(self, tiling: Tiling) -> bool:
        """Whether a stream has few enough unlike steps to write each as a model."""
        if not (tiling.stream and self.model.windows_copied):
            return True
        return prod(self._sizes[key].programs for key in self._keys(tiling)) <= MOST_PROGRAMS

    def costs(self, sources: Sequence[Node], tilings: Sequence[Tiling]) -> Costs:
        tilings = [tiling for tiling in tilings if self.is_written(tiling)]
        positions = np.array([self.network.position[source] for source in sources])
        counted = self._pieces_counted(sources)
        runs, macs, cost = np.empty((3, len(tilings), len(sources)))
        groups: dict[_Kept, list[int]] = {}
        for row, tiling in enumerate(tilings):
            groups.setdefault(self._persisting(tiling), []).append(row)
        for persisting, rows in groups.items():
            memory = self._memory_of(persisting, sources)
            parts = [self._tile_bytes(tilings[row], memory) for row in rows]
            together = _side_by_side([part for part, _ in parts])
            pieces = np.concatenate([piece for _, piece in parts], axis=1)[positions]
            peaks = memory.peaks(together, pieces * counted[:, None])
            ends = np.cumsum([part.during.shape[1] for part, _ in parts])
            starts = np.concatenate([[0], ends[:-1]])
            runs[rows] = np.maximum.reduceat(peaks, starts, axis=1).T
        work = np.array([macs_per_element(node) for node in self.nodes], dtype=np.float64)
        for row, tiling in enumerate(tilings):
            elements, read, moved = self._totals(tiling)
            macs[row] = _behind(elements * work, positions)
            cost[row] = macs[row]
            if self.model.windows_copied:
                copied = (read * self.bytes)[positions] + elements[-1] * self.bytes[-1]
                cost[row] += COPY_MACS_PER_BYTE * copied + RUN_MACS * tiling.count
                cost[row] += JOIN_MACS_PER_BYTE * _behind(moved * self.bytes, positions)
        return Costs(tuple(tilings), np.rint(runs), macs, cost)

    def step_bytes(self, source: Node, tiling: Tiling) -> Floats:
        """Live bytes at each step from the source's to `over`'s, in the fullest tile of each."""
        memory = self._memory_of(self._persisting(tiling), (source,))
        sizes, pieces = self._tile_bytes(tiling, memory)
        position = self.network.position[source]
        own = pieces[[position]] * self._pieces_counted((source,))
        live: Floats = memory.steps(sizes, own).max(axis=1)
        return live

    def _memory_of(self, kept: _Kept, sources: Sequence[Node]) -> TileMemory:
        key = (kept, tuple(sources))
        if key not in self._memory:
            persisting = frozenset(self.nodes[row] for row in kept or ())
            self._memory[key] = TileMemory(
                self.network, self.over, sources, persisting, self.model, streams=kept is not None
            )
        return self._memory[key]

    def _persisting(self, tiling: Tiling) -> _Kept:
        return self._sizes[self._keys(tiling)[0]].persisting if tiling.stream else None

    def _both(self, one: Floats, other: Floats) -> Floats:
        """Of tensors cut along two dimensions, from elements cut along either; tiles of both."""
        # In this order the quotient is a whole number, and no rounding makes equal sizes unequal.
        product = one[:, :, None] * other[:, None, :] / self.needed[:, None, None]
        found: Floats = product.reshape(self.count, -1)
        return found

    def _tile_bytes(self, tiling: Tiling, memory: TileMemory) -> tuple[TileBytes, Floats]:
        """Bytes of everything in each kind of tile, and of everything as a source's piece."""
        first, *rest = self._keys(tiling)
        sizes = self._sizes[first]
        across = strips = self.needed[:, None]
        for key in rest:
            across = self._both(across, self._sizes[key].during)
            strips = self._both(strips, self._sizes[key].work[:, None])

        def boxes(table: Floats, of: Floats = across) -> Floats:
            return self._both(table, of) * self.bytes[:, None]

        during = boxes(sizes.during)
        found = TileBytes.of_tiles(during)
        if tiling.stream:
            others = np.zeros_like(during)
            if tiling.stream == "frames":
                others = boxes(np.maximum(sizes.before, sizes.after), strips - across)
            found = TileBytes(
                boxes(sizes.before), during, boxes(sizes.after), boxes(sizes.fresh), others
            )
        piece = during
        if memory.handed_on:
            # Where nothing is new, readers read the lines that the model was given, and those that
            # later ones read again stay with the host.
            old = (found.before > 0) & (found.fresh == 0)
            held, after = np.where(old, 0, during), np.where(old, 0, found.after)
            found = TileBytes(found.before, held, after, found.fresh, found.others)
        elif self._is_written_straight():
            # A tile's result, and what it overwrites in place, lie in the whole result already.
            during = during.copy()
            owner = np.array(memory.held.owner)
            rows = np.flatnonzero(owner == owner[-1])
            during[rows] = np.where(during[rows] <= during[-1], 0, during[rows])
            piece = during
            found = TileBytes(found.before, during, found.after, found.fresh, found.others)
        return found, piece

    def _is_written_straight(self) -> bool:
        is_result = self.over is self.result
        return (
            not self.model.windows_copied
            and is_result
            and is_counted(self.network, self.model, self.result)
        )

    def _totals(self, tiling: Tiling) -> tuple[Floats, Floats, Floats]:
        """In all tiles together: elements computed, held, and moved from step to step."""
        first, *rest = self._keys(tiling)
        computed, read, moved = (
            getattr(self._sizes[first], name).copy() for name in ("work", "read", "moved")
        )
        for key in rest:
            share = self._sizes[key].work / self.needed
            computed, read, moved = computed * share, read * share, moved * share
        return computed, read, moved

    def _pieces_counted(self, sources: Sequence[Node]) -> Floats:
        """1 for sources of which a tile holds its piece beside the whole, or instead of it."""
        copied = self.model.windows_copied
        return np.array(
            [
                float(copied or not is_counted(self.network, self.model, source))
                for source in sources
            ]
        )


def is_counted(network: Network, model: MemoryModel, node: Node) -> bool:
    """Whether the whole tensor counts: a network's own input or output may be left out."""
    if node in network.inputs:
        return model.input_counted
    return model.output_counted or node not in network.outputs


def _behind(elements: Floats, positions: npt.NDArray[np.int64]) -> Floats:
    """The sum of everything after each position."""
    until = np.concatenate([[0.0], np.cumsum(elements)])
    found: Floats = until[-1] - until[positions + 1]
    return found


def _side_by_side(parts: Sequence[TileBytes]) -> TileBytes:
    names = ("before", "during", "after", "fresh", "others")
    return TileBytes(
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names)
    )
