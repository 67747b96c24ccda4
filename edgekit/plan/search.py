"""Finding a plan: which stretches of a network run tile by tile, over which grid.

A network is cut where a single tensor carries everything onwards. An edge from cut i to cut j runs
the operators between them: at once, once per tile of j's tensor, or as a stream of lines in strips,
which keeps the lines that overlap. Its memory is

    input tensor + output tensor + the peak of its largest tile (with the kept lines)

and a plan is a path: its memory is that of its worst edge, its work the sum (msf-CNN, NeurIPS 2025).
Least work under a budget is a shortest path over the edges that fit; least memory at a given work
is the smallest budget whose shortest path stays within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise, PooledToOne, Reduction
from edgekit.plan.memory import MemoryModel, macs_per_element, storages
from edgekit.plan.network import Network
from edgekit.plan.path import EVERY, WHOLE, Found, Stretch, Tiling
from edgekit.plan.tile_memory import TileBytes, TileMemory
from edgekit.plan.tile_sizes import TileSizes, is_symmetric, tile_sizes

Floats = npt.NDArray[np.float64]
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of tiles along one dimension that the search tries."""
STRIPS = (1, 2, 3, 4, 6, 8)
"""Numbers of strips for a stream, beside those whose width is one of the following."""
STRIP_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
LINES = (1, 2)
"""Lines a step of a stream."""
AGAIN = (0, 1, 2, EVERY)
"""Numbers of expansions that a stream computes again: early ones are the large and cheap ones."""
MOST_TILES = 4096
WORST_OVERHEAD = 6.0
"""Edges that multiply a stretch's work by more are not kept."""
COPY_MACS_PER_BYTE = 10.0
"""A window's input and output are copied at about 5 GB/s where convolutions run at 55 GMAC/s
(benchmarks/plan_costs.py, as for the next one)."""
RUN_MACS = 6.5e6
"""Starting one more run of a model takes about 0.12 ms."""


class Stretches:
    """Every edge of one network under one memory model that no other one beats, computed once.

    The network has been through `require_cuts`.

    `only` allows one grid of tiles; `patch_stage` one tiled stretch, from the network's input on, as
    MCUNetV2 has it.
    """

    def __init__(
        self,
        network: Network,
        model: MemoryModel,
        *,
        streams: bool = True,
        only: Tiling | None = None,
        patch_stage: bool = False,
    ) -> None:
        self.network = network
        self.model = model
        self.cuts = network.cuts()
        nodes = network.nodes
        self._full = np.array([max(1, prod(shape(node))) for node in nodes], dtype=np.float64)
        self._bytes = np.array([model.bytes_per_element(node) for node in nodes], dtype=np.float64)
        self._work = np.array([macs_per_element(node) for node in nodes], dtype=np.float64)
        self._streams = streams
        self._only = only
        self._patch_stage = patch_stage
        self._is_symmetric = is_symmetric(network)
        self._until = np.concatenate([[0.0], np.cumsum(self._full * self._work)])
        # Emptied for every result; they go with this object.
        self._sizes = cache(self._measure)
        self._memory = cache(self._account)
        self.whole_macs = int(self._until[-1])
        self.edges = list(self._all())
        self.whole_peak = max(edge.peak_bytes for edge in self.edges if edge.tiling == WHOLE)

    def _all(self) -> Iterator[Stretch]:
        for j in range(1, len(self.cuts)):
            result = self.cuts[j]
            yield self._whole(self.cuts[j - 1], result)
            over = _averaged(result)
            if over is None or over is not self.cuts[j - 1]:
                over = result
            if len(shape(over)) < 4 or prod(shape(over)[-2:]) == 1:
                continue
            sources = [cut for cut in self.cuts[: 1 if self._patch_stage else j] if cut is not over]
            if sources:
                yield from self._tiled(sources, result, over)
            self._sizes.cache_clear()
            self._memory.cache_clear()

    def _tilings(self, over: Node) -> Iterator[Tiling]:
        height, width = shape(over)[-2:]
        if self._only is not None:
            tiling = Tiling(min(self._only.rows, height), min(self._only.columns, width))
            if tiling.count > 1:
                yield tiling
            return
        for rows in SIDES[1:]:
            if rows <= min(height, width) and rows * rows <= MOST_TILES:
                yield Tiling(rows, rows)
            if rows <= height:
                yield Tiling(rows, 1)
        if not self._streams:
            return
        for again in AGAIN:
            # Several lines a step cost memory; they are worth it where a step computes some again.
            for lines in LINES if again == EVERY else (1,):
                for strips in _strips(width):
                    yield Tiling(-(-height // lines), strips, "rows", again)
                if not self._is_symmetric:
                    for strips in _strips(height):
                        yield Tiling(strips, -(-width // lines), "columns", again)

    def _tiled(self, sources: list[Node], result: Node, over: Node) -> Iterator[Stretch]:
        """For each source, the tilings that no other one beats in memory, work and tiles at once."""
        positions = np.array([self.network.position[source] for source in sources])
        last = self.network.position[over]
        whole = np.maximum(1.0, self._until[last + 1] - self._until[positions + 1])
        outside = np.array([self._outside(source, result) for source in sources])
        tilings = list(self._tilings(over))
        runs, macs, costs = np.empty((3, len(tilings), len(sources)))
        for row, tiling in enumerate(tilings):
            sizes, elements = self._tiles(result, over, tiling)
            memory = self._memory(over, tuple(sources), self._persisting(over, tiling))
            pieces = sizes.during[positions] * self._pieces_counted(sources)[:, None]
            runs[row] = memory.peaks(sizes, pieces)
            until = np.concatenate([[0.0], np.cumsum(elements * self._work[: last + 1])])
            costs[row] = macs[row] = until[-1] - until[positions + 1]
            if self.model.windows_copied:
                copied = elements[positions] * self._bytes[positions]
                copied += elements[-1] * self._bytes[last]
                costs[row] += COPY_MACS_PER_BYTE * copied + RUN_MACS * tiling.count
        counts = np.array([tiling.count for tiling in tilings])
        for column, source in enumerate(sources):
            order = np.lexsort((counts, macs[:, column], runs[:, column]))
            least_macs, least_cost = (np.inf, np.inf), np.inf
            for row in order:
                work, cost = (
                    (float(macs[row, column]), float(counts[row])),
                    float(costs[row, column]),
                )
                is_better = work < least_macs or cost < least_cost
                if not is_better or work[0] > (1 + WORST_OVERHEAD) * whole[column]:
                    continue
                least_macs, least_cost = min(work, least_macs), min(cost, least_cost)
                run = round(runs[row, column])
                yield Stretch(
                    source, result, over, tilings[row], round(run + outside[column]), run,
                    round(work[0]), cost,
                )  # fmt: skip

    def _whole(self, source: Node, result: Node) -> Stretch:
        live = self._whole_bytes(source, result)
        first, last = self.network.position[source], self.network.position[result]
        macs = self._until[last + 1] - self._until[first + 1]
        peak = round(live.max())
        return Stretch(source, result, result, WHOLE, peak, peak, round(macs), float(macs))

    def _whole_bytes(self, source: Node, result: Node) -> Floats:
        first, last = self.network.position[source], self.network.position[result]
        sizes = (self._full * self._bytes)[first : last + 1, None].copy()
        sizes[0] *= self._is_counted(source)
        sizes[-1] *= self._is_counted(result)
        nodes = self.network.nodes[first : last + 1]
        live: Floats = storages(self.network, nodes, (result,), self.model).live_bytes(sizes)[:, 0]
        return live

    def step_bytes(self, stretch: Stretch) -> Floats:
        """Live bytes at each step from the source's to the result's, in the fullest tile of each."""
        source, result, over = stretch.source, stretch.result, stretch.over
        if stretch.tiling == WHOLE:
            return self._whole_bytes(source, result)
        first, last = self.network.position[source], self.network.position[over]
        sizes, _ = self._tiles(result, over, stretch.tiling)
        before, during, after = (
            part[first:].copy() for part in (sizes.before, sizes.during, sizes.after)
        )
        before[0] = after[0] = 0  # its lines are read again from the whole source
        during[0] *= self._pieces_counted([source])[0]
        held = storages(
            self.network, self.network.nodes[first : last + 1], (over,), self.model,
            self._persisting(over, stretch.tiling),
        )  # fmt: skip
        live: Floats = held.live_bytes(during, before, after).max(axis=1)
        if over is not result:
            live = np.append(live, live[-1])
        live += self._outside(source, result)
        return live

    def _named(self, stretch: Stretch) -> Stretch:
        first = self.network.position[stretch.source]
        worst = self.network.nodes[first + int(self.step_bytes(stretch).argmax())].name
        return replace(stretch, worst=worst)

    def _tiles(self, result: Node, over: Node, tiling: Tiling) -> tuple[TileBytes, Floats]:
        """Bytes of everything up to `over` in each kind of tile, and its elements in all of them."""
        again = tiling.again
        down = self._sizes(over, -2, tiling.rows, tiling.stream == "rows", again)
        across = self._sizes(over, -1, tiling.columns, tiling.stream == "columns", again)
        count = self.network.position[over] + 1
        # Of all that `over` needs, which may be less than all there is: the last line of an image
        # is none of a stride's.
        needed = np.maximum(1.0, self._sizes(over, -2, 1, False, 0).during[:, 0])
        scale = (self._bytes[:count] / needed)[:, None, None]

        def both(one: Floats, other: Floats) -> Floats:
            # Along rows and along columns apart: a box holds the product of both shares.
            product: Floats = (one[:, :, None] * other[:, None, :] * scale).reshape(count, -1)
            return product

        if tiling.stream == "columns":
            parts = [
                both(down.during, kept) for kept in (across.before, across.during, across.after)
            ]
        else:
            parts = [both(kept, across.during) for kept in (down.before, down.during, down.after)]
        if not self.model.windows_copied and over is result and self._is_counted(result):
            self._write_straight(parts[1], over, tiling)
        return TileBytes(*parts), down.work * across.work / needed

    def _write_straight(self, during: Floats, over: Node, tiling: Tiling) -> None:
        """A tile's result, and what it overwrites in place, lie in the whole result already."""
        held = self._memory(over, (self.cuts[0],), self._persisting(over, tiling)).held
        rows = [row for row, owner in enumerate(held.owner) if owner == held.owner[-1]]
        during[rows] = np.where(during[rows] <= during[-1], 0, during[rows])

    def _persisting(self, over: Node, tiling: Tiling) -> frozenset[Node]:
        """Nodes of which a stream keeps lines."""
        if not tiling.stream:
            return frozenset()
        dim, parts = (-2, tiling.rows) if tiling.stream == "rows" else (-1, tiling.columns)
        rows = self._sizes(over, dim, parts, True, tiling.again).persisting
        return frozenset(self.network.nodes[row] for row in rows)

    def _outside(self, source: Node, result: Node) -> float:
        position = self.network.position
        return float(
            sum(
                self._full[position[node]] * self._bytes[position[node]]
                for node in (source, result)
                if self._is_counted(node)
            )
        )

    def _pieces_counted(self, sources: Sequence[Node]) -> Floats:
        """1 for sources of which a tile holds its piece beside the whole, or instead of it."""
        copied = self.model.windows_copied
        return np.array([float(copied or not self._is_counted(source)) for source in sources])

    def _is_counted(self, node: Node) -> bool:
        if node in self.network.inputs:
            return self.model.input_counted
        return self.model.output_counted or node not in self.network.outputs

    def _measure(self, over: Node, dim: int, parts: int, stream: bool, again: int) -> TileSizes:
        if again and not stream:
            return self._sizes(over, dim, parts, stream, 0)
        if dim == -1 and self._is_symmetric:
            return self._sizes(over, -2, parts, stream, again)
        kept = kept_lines(self.network, again) if stream else frozenset()
        return tile_sizes(self.network, over, dim, parts, kept)

    def _account(
        self, over: Node, sources: tuple[Node, ...], persisting: frozenset[Node]
    ) -> TileMemory:
        return TileMemory(self.network, over, sources, persisting, self.model)

    def least_work(self, budget_bytes: float) -> Found | None:
        """The path with the least work (runs and copies included) whose edges all fit, or None."""
        return self._path(budget_bytes, lambda edge: edge.cost)

    def _path(self, budget_bytes: float, cost_of: Callable[[Stretch], float]) -> Found | None:
        fitting: dict[Node, list[Stretch]] = {}
        for edge in self.edges:
            if edge.peak_bytes <= budget_bytes:
                fitting.setdefault(edge.source, []).append(edge)
        best: dict[Node, tuple[float, int]] = {self.cuts[0]: (0.0, 0)}
        arrived: dict[Node, Stretch] = {}
        for cut in self.cuts:
            if cut not in best:
                continue
            spent, tiles = best[cut]
            for edge in fitting.get(cut, ()):
                cost = (spent + cost_of(edge), tiles + edge.tiling.count)
                if edge.result not in best or cost < best[edge.result]:
                    best[edge.result], arrived[edge.result] = cost, edge
        if self.cuts[-1] not in best:
            return None
        path: list[Stretch] = []
        cut = self.cuts[-1]
        while cut in arrived:
            path.insert(0, arrived[cut])
            cut = arrived[cut].source
        return Found(tuple(map(self._named, path)), self.whole_peak, self.whole_macs)

    def least_memory(self, most_overhead: float = float("inf")) -> Found:
        """The path with the smallest peak whose extra work is at most a share of the whole's."""

        def within(budget_bytes: float) -> Found | None:
            found = self.least_work(budget_bytes)
            if found is not None and found.overhead > most_overhead:
                # Fewer multiplications, at the price of more runs and copies.
                found = self._path(budget_bytes, lambda edge: edge.macs)
            return found if found is not None and found.overhead <= most_overhead else None

        budgets = sorted({edge.peak_bytes for edge in self.edges})
        low, high = 0, len(budgets) - 1
        found = within(budgets[high])
        while low < high:
            middle = (low + high) // 2
            trial = within(budgets[middle])
            if trial is not None:
                high, found = middle, trial
            else:
                low = middle + 1
        assert found is not None, "consecutive cuts are joined by whole edges"
        return found


def _strips(size: int) -> list[int]:
    return sorted({n for n in STRIPS if n <= size} | {-(-size // wide) for wide in STRIP_WIDTHS})


def kept_lines(network: Network, again: int) -> frozenset[Node]:
    """Nodes whose lines a stream keeps: all but the first `again` expansions and what follows them
    element by element.
    """
    wide: set[Node] = set()
    expansions = 0
    for node in network.nodes:
        sources = [source for source in node.all_input_nodes if source in network.position]
        pointwise = isinstance(map_of(node), Pointwise | ChannelParameters)
        expansions += _is_expansion(node)
        if (_is_expansion(node) and expansions <= again) or (
            pointwise and sources and all(source in wide for source in sources)
        ):
            wide.add(node)
    return frozenset(node for node in network.nodes if node not in wide)


def _averaged(node: Node) -> Node | None:
    """The input of a mean over the image, which can be summed up tile by tile."""
    source: Any = node.args[0] if node.args else None
    mapping = map_of(node)
    if not isinstance(source, Node) or len(shape(source)) != 4:
        return None
    if isinstance(mapping, PooledToOne):
        return source if set(shape(node)[2:]) == {1} else None
    if isinstance(mapping, Reduction) and str(node.target) == "aten.mean.dim":
        rank = len(shape(source))
        return source if mapping.reduced(node) == {rank - 2, rank - 1} else None
    return None


def _is_expansion(node: Node) -> bool:
    """A 1x1 convolution to at least twice as many channels."""
    if not str(node.target).startswith("aten.conv2d"):
        return False
    weight: Any = node.args[1]
    sizes = shape(weight)
    return set(sizes[2:]) == {1} and sizes[0] >= 2 * sizes[1]
