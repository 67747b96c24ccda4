"""Finding a plan: which stretches of a network run tile by tile, over which grid.

A network is cut where a single tensor carries everything onwards. An edge from cut i to cut j runs
the operators between them: at once, once per tile of j's tensor, or as a stream of lines or frames
in strips, which keeps those that overlap. Its memory is

    input tensor + output tensor + the peak of its largest tile (with what is kept)

and a plan is a path: its memory is that of its worst edge, its work the sum (msf-CNN, NeurIPS 2025).
Least work under a budget is a shortest path over the edges that fit; least memory at a given work
is the smallest budget whose shortest path stays within it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.arrivals import Arrivals, Costs, is_counted
from edgekit.plan.frames import FrameAxis, frame_axes
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, macs_per_element, storages, timeline
from edgekit.plan.network import Network
from edgekit.plan.path import WHOLE, Found, Stretch, Tiling
from edgekit.plan.patterns import averaged, expansion_numbers, is_expansion, search_cuts
from edgekit.plan.tile_sizes import is_symmetric
from edgekit.plan.tilings import Choice

Floats = npt.NDArray[np.float64]
WORST_OVERHEAD = 6.0
"""Edges that multiply a stretch's work by more are not kept."""


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
        self.cuts = search_cuts(network)
        self._full = np.array([max(1, prod(shape(node))) for node in network.nodes], np.float64)
        self._bytes = np.array(
            [model.bytes_per_element(node) for node in network.nodes], np.float64
        )
        work = np.array([macs_per_element(node) for node in network.nodes], np.float64)
        self._until = np.concatenate([[0.0], np.cumsum(self._full * work)])
        self._streams = streams
        self._only = only
        self._patch_stage = patch_stage
        self._is_symmetric = is_symmetric(network)
        self._axes = frame_axes(network)
        self._numbers = expansion_numbers(network)
        self.whole_macs = int(self._until[-1])
        self.edges = list(self._all())
        self.whole_peak = timeline(network, model).peak_bytes
        self._fronts = [_Front(list(edges)) for edges in _by_ends(self.edges)]

    def _all(self) -> Iterator[Stretch]:
        highest = 0
        for j in range(1, len(self.cuts)):
            result = self.cuts[j]
            whole = self._whole(self.cuts[j - 1], result)
            yield whole
            if whole.peak_bytes > highest or result is self.cuts[-1]:
                highest = max(highest, whole.peak_bytes)
                # A stretch holds its source to its end; one run from the input on gives that back when it is read. Tried
                # where the peak rises: enough that no plan needs more than the network, and no search of all runs.
                begun = self._whole(self.cuts[0], result)
                if begun.peak_bytes < highest:
                    yield begun
            over = averaged(result)
            if over is None or over is not self.cuts[j - 1]:
                over = result
            if len(shape(over)) < 4 or prod(shape(over)[-2:]) == 1:
                continue
            sources = [cut for cut in self.cuts[: 1 if self._patch_stage else j] if cut is not over]
            if sources:
                yield from self._tiled(sources, result, over)

    def _arrivals(self, result: Node, over: Node) -> Arrivals:
        return Arrivals(
            self.network, self.model, result, over, self._axis(result, over), self._numbers,
            symmetric=self._is_symmetric,
        )  # fmt: skip

    def _axis(self, result: Node, over: Node) -> FrameAxis | None:
        """A mean over each image has a value per image: its shares are no sum over the frames."""
        return self._axes.get(over) if over is result else None

    def _tilings(self, result: Node, over: Node) -> list[Tiling]:
        before = self.network.nodes[: self.network.position[over] + 1]
        choice = Choice(
            over,
            self._axis(result, over),
            sum(map(is_expansion, before)),
            self._streams,
            self.model.windows_copied,
            self._is_symmetric,
        )
        return list(choice.tilings() if self._only is None else choice.only(self._only))

    def _tiled(self, sources: list[Node], result: Node, over: Node) -> Iterator[Stretch]:
        """For each source, the tilings that no other one beats in memory, work and tiles at once."""
        tilings = self._tilings(result, over)
        if not tilings:
            return
        arrivals = self._arrivals(result, over)
        arrivals.measure(tilings)
        costs = arrivals.costs(sources, tilings)
        last = self.network.position[over]
        for column, source in enumerate(sources):
            whole = max(1.0, self._until[last + 1] - self._until[self.network.position[source] + 1])
            outside = self._outside(source, result)
            for row in _unbeaten(costs, column, (1 + WORST_OVERHEAD) * whole):
                run = int(costs.run_bytes[row, column])
                yield Stretch(
                    source, result, over, costs.tilings[row], round(run + outside), run,
                    round(costs.macs[row, column]), float(costs.cost[row, column]),
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
        sizes[0] *= is_counted(self.network, self.model, source)
        sizes[-1] *= is_counted(self.network, self.model, result)
        nodes = self.network.nodes[first : last + 1]
        # A model's run holds what it was given to its end.
        held = (source, result) if self.model.windows_copied else (result,)
        live: Floats = storages(self.network, nodes, held, self.model).live_bytes(sizes)[:, 0]
        return live

    def step_bytes(self, stretch: Stretch) -> Floats:
        """Live bytes at each step from the source's to the result's, in the fullest tile of each."""
        source, result, over = stretch.source, stretch.result, stretch.over
        if stretch.tiling == WHOLE:
            return self._whole_bytes(source, result)
        arrivals = self._arrivals(result, over)
        arrivals.measure([stretch.tiling])
        live = arrivals.step_bytes(source, stretch.tiling)
        if over is not result:
            live = np.append(live, live[-1])
        return live + self._outside(source, result)

    def _named(self, stretch: Stretch) -> Stretch:
        first = self.network.position[stretch.source]
        worst = self.network.nodes[first + int(self.step_bytes(stretch).argmax())].name
        return replace(stretch, worst=worst)

    def _outside(self, source: Node, result: Node) -> float:
        position = self.network.position
        return float(
            sum(
                self._full[position[node]] * self._bytes[position[node]]
                for node in (source, result)
                if is_counted(self.network, self.model, node)
            )
        )

    def least_work(self, budget_bytes: float) -> Found | None:
        """The path with the least work (runs and copies included) whose edges all fit, or None."""
        return self._finished(self._path(budget_bytes, _Front.cheapest))

    def least_memory(self, most_overhead: float = float("inf")) -> Found:
        """The path with the smallest peak whose extra work is at most a share of the whole's."""
        most = (1 + most_overhead) * self.whole_macs

        def within(budget_bytes: float) -> list[Stretch] | None:
            path = self._path(budget_bytes, _Front.cheapest)
            if path is not None and sum(edge.macs for edge in path) > most:
                # Fewer multiplications, at the price of more runs and copies.
                path = self._path(budget_bytes, _Front.least_macs)
            return path if path and sum(edge.macs for edge in path) <= most else None

        budgets = sorted({edge.peak_bytes for edge in self.edges})
        low, high = 0, len(budgets) - 1
        path = within(budgets[high])
        while low < high:
            middle = (low + high) // 2
            trial = within(budgets[middle])
            if trial is not None:
                high, path = middle, trial
            else:
                low = middle + 1
        found = self._finished(path)
        assert found is not None, "consecutive cuts are joined by whole edges"
        return found

    def _path(
        self, budget_bytes: float, pick: Callable[[_Front, float], tuple[float, Stretch] | None]
    ) -> list[Stretch] | None:
        best: dict[Node, tuple[float, int]] = {self.cuts[0]: (0.0, 0)}
        arrived: dict[Node, Stretch] = {}
        for front in self._fronts:
            picked = pick(front, budget_bytes) if front.source in best else None
            if picked is None:
                continue
            spent, tiles = best[front.source]
            cost = (spent + picked[0], tiles + picked[1].tiling.count)
            if front.result not in best or cost < best[front.result]:
                best[front.result], arrived[front.result] = cost, picked[1]
        if self.cuts[-1] not in best:
            return None
        path: list[Stretch] = []
        cut = self.cuts[-1]
        while cut in arrived:
            path.insert(0, arrived[cut])
            cut = arrived[cut].source
        return path

    def _finished(self, path: list[Stretch] | None) -> Found | None:
        if path is None:
            return None
        return Found(tuple(map(self._named, path)), self.whole_peak, self.whole_macs)


class _Front:
    """The edges between two cuts by growing memory, and the best of those that fit a budget."""

    def __init__(self, edges: list[Stretch]) -> None:
        edges.sort(key=lambda edge: edge.peak_bytes)
        self.source, self.result = edges[0].source, edges[0].result
        self._peaks = [edge.peak_bytes for edge in edges]
        self._cheapest = _best_so_far(edges, lambda edge: edge.cost)
        self._least_macs = _best_so_far(edges, lambda edge: edge.macs)

    def cheapest(self, budget_bytes: float) -> tuple[float, Stretch] | None:
        count = bisect_right(self._peaks, budget_bytes)
        return self._cheapest[count - 1] if count else None

    def least_macs(self, budget_bytes: float) -> tuple[float, Stretch] | None:
        count = bisect_right(self._peaks, budget_bytes)
        return self._least_macs[count - 1] if count else None


def _best_so_far(
    edges: list[Stretch], cost: Callable[[Stretch], float]
) -> list[tuple[float, Stretch]]:
    def better(one: tuple[float, Stretch], other: tuple[float, Stretch]) -> tuple[float, Stretch]:
        keys = [(spent, edge.tiling.count) for spent, edge in (one, other)]
        return other if keys[1] < keys[0] else one

    return list(accumulate(((cost(edge), edge) for edge in edges), better))


def _by_ends(edges: Sequence[Stretch]) -> list[list[Stretch]]:
    """Edges between the same two cuts, in order of the second one."""
    groups: dict[tuple[Node, Node], list[Stretch]] = {}
    for edge in edges:
        groups.setdefault((edge.source, edge.result), []).append(edge)
    return list(groups.values())


def _unbeaten(costs: Costs, column: int, most_macs: float) -> list[int]:
    """Rows that no other one reaches in memory, in work (then tiles), and in cost."""
    runs, macs, cost = (table[:, column] for table in (costs.run_bytes, costs.macs, costs.cost))
    counts = np.array([tiling.count for tiling in costs.tilings])
    found: list[int] = []
    least_work, least_cost = (np.inf, np.inf), np.inf
    order = np.lexsort((counts, macs, runs))
    for row in order[macs[order] <= most_macs].tolist():
        work = (macs[row], counts[row])
        if work < least_work or cost[row] < least_cost:
            least_work, least_cost = min(work, least_work), min(cost[row], least_cost)
            found.append(row)
    return found
