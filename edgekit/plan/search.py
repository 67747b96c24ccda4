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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise, PooledToOne, Reduction
from edgekit.plan.memory import MemoryModel, Storages, macs_per_element, storages
from edgekit.plan.network import Network, boxes
from edgekit.plan.region import Region, elements

Floats = npt.NDArray[np.float64]
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of tiles along one dimension that the search tries."""
STRIPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 112, 144)
MOST_TILES = 4096
WORST_OVERHEAD = 6.0
"""Edges that multiply a stretch's work by more are not kept."""
COPY_MACS_PER_BYTE = 8.0
"""A window's input and output are copied at about 6 GB/s where convolutions run at 50 GMAC/s."""
RUN_MACS = 5e6
"""Starting one more run of a model takes about 0.1 ms."""
SMALL = 0.03
"""Tiles whose own memory is a smaller share of their edge's are not cut further."""


@dataclass(frozen=True)
class Tiling:
    """How a stretch is cut: rows x columns of tiles, or strips in which lines stream.

    With `stream` "rows", each of `columns` strips is run down its `rows` lines; with "columns", each
    of `rows` strips is run along its `columns`.
    """

    rows: int = 1
    columns: int = 1
    stream: str = ""
    recompute_wide: bool = False
    """Keep the thin inputs of expansions, and expand again, instead of keeping what is expanded."""

    def __str__(self) -> str:
        form = f"{self.rows}x{self.columns}"
        if not self.stream:
            return form
        return (
            f"{form} streaming {self.stream}{', expansions again' if self.recompute_wide else ''}"
        )

    @property
    def count(self) -> int:
        return self.rows * self.columns


WHOLE = Tiling()


@dataclass(frozen=True)
class Stretch:
    """Operators between two cuts, and how they run."""

    source: Node
    result: Node
    over: Node
    """The tensor that is tiled: `result`, or what `result` averages over the image."""
    tiling: Tiling
    peak_bytes: int
    run_bytes: int
    """Of the peak: what one run of a model holds, without the whole tensors beside it."""
    macs: int
    cost: float
    """What the search minimises: multiply-accumulates, and those that runs and copies are worth."""
    worst: str
    """The operator at the peak."""


@dataclass(frozen=True)
class Found:
    """A path through a network's cuts."""

    stretches: tuple[Stretch, ...]
    whole_peak_bytes: int
    whole_macs: int

    @property
    def peak_bytes(self) -> int:
        return max(stretch.peak_bytes for stretch in self.stretches)

    @property
    def macs(self) -> int:
        return sum(stretch.macs for stretch in self.stretches)

    @property
    def overhead(self) -> float:
        """Extra multiply-accumulates as a share of the whole network's."""
        return self.macs / max(1, self.whole_macs) - 1

    @property
    def worst(self) -> Stretch:
        return max(self.stretches, key=lambda stretch: stretch.peak_bytes)


def split(size: int, parts: int) -> list[tuple[int, int]]:
    """Nearly equal spans of `size`, longer ones first; as many as `parts`, or as there are elements."""
    parts = min(parts, size)
    bounds = [-(-size * index // parts) for index in range(parts + 1)]
    return list(pairwise(bounds))


@dataclass(frozen=True)
class Counts:
    """Elements of every tensor, tensors x kinds of tiles, for tiles along one dimension."""

    computed: Floats
    held: Floats
    number: Floats
    """How often each kind occurs."""


class Stretches:
    """Every edge of one network under one memory model, computed once."""

    def __init__(
        self,
        network: Network,
        model: MemoryModel,
        *,
        streams: bool = True,
        only: Tiling | None = None,
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
        self.whole_macs = int((self._full * self._work).sum())
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
            for i in range(j - 1, -1, -1):
                if self.cuts[i] is not over:
                    yield from self._tiled(self.cuts[i], result, over)
            self._counts.cache_clear()

    def _tiled(self, source: Node, result: Node, over: Node) -> Iterator[Stretch]:
        height, width = shape(over)[-2:]
        if self._only is not None:
            rows, columns = min(self._only.rows, height), min(self._only.columns, width)
            yield from self._edges(source, result, over, [Tiling(rows, columns)])
            return
        down = [side for side in SIDES if side <= height]
        across = [side for side in SIDES if side <= width]
        yield from self._edges(
            source, result, over, [Tiling(n, n) for n in down[1:] if n in across]
        )
        yield from self._edges(source, result, over, [Tiling(n, 1) for n in down[1:]])
        if self._streams:
            strips = sorted({n for n in STRIPS if n < width} | {width})
            for again in (False, True):
                yield from self._edges(
                    source, result, over, [Tiling(height, n, "rows", again) for n in strips]
                )
                if height != width:
                    yield from self._edges(
                        source, result, over, [Tiling(n, width, "columns", again) for n in strips]
                    )

    def _edges(
        self, source: Node, result: Node, over: Node, tilings: list[Tiling]
    ) -> Iterator[Stretch]:
        """Finer and finer tilings, as long as their tiles' memory matters."""
        for tiling in tilings:
            if tiling.count > MOST_TILES and not tiling.stream:
                return
            edge, share, extra = self._edge(source, result, over, tiling)
            if extra <= WORST_OVERHEAD:
                yield edge
            if share < SMALL or extra > WORST_OVERHEAD:
                return

    def _whole(self, source: Node, result: Node) -> Stretch:
        first, last = self.network.position[source], self.network.position[result]
        sizes = (self._full * self._bytes)[first : last + 1, None].copy()
        sizes[0] *= self._is_counted(source)
        sizes[-1] *= self._is_counted(result)
        live = self._storages(source, result, False).live_bytes(sizes)[:, 0]
        macs = (self._full * self._work)[first + 1 : last + 1].sum()
        worst = self.network.nodes[first + int(live.argmax())].name
        return Stretch(
            source,
            result,
            result,
            WHOLE,
            int(live.max()),
            int(live.max()),
            int(macs),
            float(macs),
            worst,
        )

    def _edge(
        self, source: Node, result: Node, over: Node, tiling: Tiling
    ) -> tuple[Stretch, float, float]:
        """The edge, its tiles' share of its memory, and how many times the whole's work it does."""
        first, last = self.network.position[source], self.network.position[over]
        down = self._counts(over, -2, tiling.rows, tiling.stream == "rows", tiling.recompute_wide)
        across = self._counts(
            over, -1, tiling.columns, tiling.stream == "columns", tiling.recompute_wide
        )
        part = slice(first, last + 1)
        full = self._full[part, None, None]

        def both(one: Floats, other: Floats) -> Floats:
            # Along rows and along columns apart: a box holds the product of both shares.
            return (one[part, :, None] * other[part, None, :] / full).reshape(last + 1 - first, -1)

        computed = both(down.computed, across.computed)
        sizes = both(down.held, across.held) * self._bytes[part, None]
        if not self.model.windows_copied:
            sizes[0] = 0
            sizes[-1] *= over is not result
        tile = self._storages(source, over, bool(tiling.stream)).live_bytes(sizes).max(axis=1)
        outside = sum(self._size(node) for node in (source, result) if self._is_counted(node))
        number = np.outer(down.number, across.number).ravel()
        macs = (computed[1:] * self._work[first + 1 : last + 1, None]).sum(axis=0) @ number
        whole = (self._full * self._work)[first + 1 : last + 1].sum()
        worst = self.network.nodes[first + int(tile.argmax())].name
        peak = int(tile.max() + outside)
        cost = float(macs)
        if self.model.windows_copied:
            copied = (sizes[0] + sizes[-1]) @ number
            cost += COPY_MACS_PER_BYTE * copied + RUN_MACS * number.sum()
        edge = Stretch(source, result, over, tiling, peak, int(tile.max()), int(macs), cost, worst)
        return edge, float(tile.max() / max(1, peak)), float(macs / max(1.0, whole))

    def _size(self, node: Node) -> float:
        position = self.network.position[node]
        return float(self._full[position] * self._bytes[position])

    def _is_counted(self, node: Node) -> bool:
        if node in self.network.inputs:
            return self.model.input_counted
        return self.model.output_counted or node not in self.network.outputs

    @cache  # noqa: B019  # cleared for every result; lives as long as one search
    def _counts(self, over: Node, dim: int, parts: int, stream: bool, again: bool) -> Counts:
        sizes = shape(over)
        spans = split(sizes[dim], parts)
        start, stop = (np.array(bounds, dtype=np.int64) for bounds in zip(*spans, strict=True))
        region: Region = tuple(
            (start, stop) if position == dim % len(sizes) else (0, size)
            for position, size in enumerate(sizes)
        )
        kept = self._kept(again) if stream else frozenset()
        found = boxes(self.network, (), {over: region}, kept)
        nodes = self.network.nodes
        computed, held = (
            np.stack(
                [
                    np.broadcast_to(elements(side[node]) if node in side else 0, (len(spans),))
                    for node in nodes
                ]
            )
            for side in (found.computed, found.held)
        )
        # Work is summed over all tiles, memory is that of unlike ones.
        both = np.concatenate([computed, held])
        _, kinds, number = np.unique(both, axis=1, return_index=True, return_counts=True)
        return Counts(
            computed[:, kinds].astype(float), held[:, kinds].astype(float), number.astype(float)
        )

    @cache  # noqa: B019
    def _kept(self, again: bool) -> frozenset[Node]:
        """Nodes whose lines a stream keeps: all, or all but expansions and what follows them."""
        nodes = self.network.nodes
        if not again:
            return frozenset(nodes)
        wide: set[Node] = set()
        for node in nodes:
            sources = [source for source in node.all_input_nodes if source in self.network.position]
            pointwise = isinstance(map_of(node), Pointwise | ChannelParameters)
            if _is_expansion(node) or (pointwise and sources and all(s in wide for s in sources)):
                wide.add(node)
        return frozenset(node for node in nodes if node not in wide)

    @cache  # noqa: B019
    def _storages(self, source: Node, result: Node, stream: bool) -> Storages:
        position = self.network.position
        nodes = self.network.nodes[position[source] : position[result] + 1]
        lasting: list[Node] = []
        if stream:  # a line that is kept stays; whether it is follows from its readers' windows
            lasting = [node for node in nodes if _is_overlapped(node, self.network)]
        return storages(self.network, nodes, (result,), self.model, lasting)

    def least_work(self, budget_bytes: float) -> Found | None:
        """The path with the least work whose edges all fit, or None."""
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
                cost = (spent + edge.cost, tiles + edge.tiling.count)
                if edge.result not in best or cost < best[edge.result]:
                    best[edge.result], arrived[edge.result] = cost, edge
        if self.cuts[-1] not in best:
            return None
        path: list[Stretch] = []
        cut = self.cuts[-1]
        while cut in arrived:
            path.insert(0, arrived[cut])
            cut = arrived[cut].source
        return Found(tuple(path), self.whole_peak, self.whole_macs)

    def least_memory(self, most_overhead: float = float("inf")) -> Found:
        """The path with the smallest peak whose extra work is at most a share of the whole's."""
        budgets = sorted({edge.peak_bytes for edge in self.edges})
        low, high = 0, len(budgets) - 1
        found = self.least_work(budgets[high])
        while low < high:
            middle = (low + high) // 2
            trial = self.least_work(budgets[middle])
            if trial is not None and trial.overhead <= most_overhead:
                high, found = middle, trial
            else:
                low = middle + 1
        assert found is not None, "consecutive cuts are joined by whole edges"
        return found


def _averaged(node: Node) -> Node | None:
    """The input of a mean over the image, which can be summed up tile by tile."""
    source: Any = node.args[0] if node.args else None
    mapping = map_of(node)
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


def _is_overlapped(node: Node, network: Network) -> bool:
    """Whether a reader's window is wider than its step, or a later reader lags behind another."""
    readers = network.readers[node]
    if len(readers) > 1:
        return True
    for reader in readers:
        windows = getattr(map_of(reader), "windows", None)
        if windows is None:
            continue
        found = [w[0] if isinstance(w, tuple) else w for w in windows(reader)]
        if any(window.kernel > 1 for window in found):
            return True
    return False
