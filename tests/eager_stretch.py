"""Running a tiled or streamed stretch in eager torch, tile by tile: the reference for what search predicts.

Every strip begins with nothing. Each of its tiles computes what it is told to, joins it to the lines
that were kept of the same tensor, and drops whatever no later operator or tile reads. Strips whose
lines stream come one after the other; strips whose frames stream take turns, so that no frame of the
source is needed twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from edgekit.plan.frames import FrameAxis
from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.maps.pointwise import ChannelParameters, Pointwise
from edgekit.plan.memory import VIEWS, MemoryModel
from edgekit.plan.network import Boxes, Network, boxes
from edgekit.plan.path import Stretch, tile_spans
from edgekit.plan.patterns import kept_lines
from edgekit.plan.region import Region, Span, elements, tile, whole
from edgekit.plan.tape import TorchTape
from edgekit.plan.tile_sizes import lines_needed

aten = torch.ops.aten


def is_kept(node: Node, found: Boxes, kept: Collection[Node]) -> bool:
    """Whether a stream keeps lines of the node: not of what every tile computes whole."""
    return node in kept and any(isinstance(stop, np.ndarray) for _, stop in found.held[node])


@dataclass
class Run:
    """What a run computed, and what it held."""

    value: Tensor
    peak_bytes: int = 0
    """Of the tiles' own tensors, the source's and the result's whole ones left out."""
    windows_bytes: int = 0
    """Of that: the largest box of the source and the largest one of the result together."""
    computed: dict[Node, list[list[tuple[int, int]]]] = field(default_factory=dict)
    """For each kept node and strip: the lines that each tile has computed."""


@dataclass(frozen=True)
class _Kept:
    """Of one node in one strip, along the dimension that streams, for each tile."""

    dim: int
    from_now: list[int]
    later: list[int]
    end: list[int]


def run_stretch(
    network: Network,
    stretch: Stretch,
    source: Tensor,
    model: MemoryModel,
    axis: FrameAxis | None = None,
) -> Run:
    """The tensor that the stretch tiles (`over`), from the whole of its source.

    `axis` is that of the frames of `over`. Kept lines stay where they are from one tile to the next.
    """
    over, tiling = stretch.over, stretch.tiling
    run = Run(torch.full(shape(over), float("nan")))
    cut = tile_spans(network, over, tiling, axis)
    rank = len(shape(over))
    streamed = {"rows": rank - 2, "columns": rank - 1, "frames": axis.dim if axis else 0}
    flow = streamed[tiling.stream] if tiling.stream else min(cut)
    starts, stops = np.array(cut.pop(flow)).T
    strips = []
    for places in product(*cut.values()):
        spans: list[Span] = list(whole(shape(over)))
        spans[flow] = (starts, stops)
        for dim, place in zip(cut, places, strict=True):
            spans[dim] = place
        strips.append(_Strip(network, stretch, tuple(spans), len(starts), model, run))
    tiles = range(len(starts))
    takes_turns = tiling.stream == "frames"
    order = product(tiles, strips) if takes_turns else ((n, s) for s in strips for n in tiles)
    for number, strip in order:
        others = sum(other.kept_bytes() for other in strips if other is not strip)
        strip.run(number, source, others)
    return run


class _Strip:
    """One strip: its tiles one after the other, and the lines that pass between them."""

    def __init__(
        self, network: Network, stretch: Stretch, box: Region, count: int, model: MemoryModel, run: Run
    ) -> None:  # fmt: skip
        tiling = stretch.tiling
        kept = kept_lines(network, tiling.again) if tiling.stream else frozenset[Node]()
        self.stretch, self.model, self.result = stretch, model, run
        self.found = found = boxes(network, (stretch.source,), {stretch.over: box}, kept)
        self.tape = TorchTape(network.edit)
        self.kept = {
            node: _lines(found.held[node], count)
            for node in found.order
            if is_kept(node, found, kept)
        }
        self.computed: dict[Node, list[tuple[int, int]]] = {node: [] for node in self.kept}
        for node, lines in self.computed.items():
            run.computed.setdefault(node, []).append(lines)
        self.last_step = {
            source: step for step, node in enumerate(found.order) for source in node.all_input_nodes
        }

    def run(self, number: int, source: Tensor, beside: int) -> None:
        """One tile, while other strips keep `beside` bytes."""
        over, given = self.stretch.over, self.stretch.source
        self.tape.hold(given, source, whole(shape(given)))
        for step, node in enumerate(self.found.order):
            self._compute(node, number)
            self._count(step, node, number, beside)
            self._drop(step, number)
        region = tile(self.found.computed[over], number)
        place = tuple(slice(int(start), int(stop)) for start, stop in region)
        self.result.value[place] = self.tape.operand(over, region)
        self._drop(len(self.found.order), number)
        del self.tape.held[given]
        windows = {over: region, given: tile(self.found.read[given], number)}
        size = sum(
            int(elements(box)) * self.model.bytes_per_element(node) for node, box in windows.items()
        )
        self.result.windows_bytes = max(self.result.windows_bytes, size)

    def kept_bytes(self) -> int:
        return sum(
            prod(value.shape) * self.model.bytes_per_element(node)
            for node, (value, _) in self.tape.held.items()
        )

    def _compute(self, node: Node, number: int) -> None:
        region = tile(self.found.computed[node], number)
        new = None
        if elements(region):
            new = map_of(node).emit(node, region, self.tape)
        if node not in self.kept:
            if new is not None:
                self.tape.hold(node, new, region)
            return
        kept = self.kept[node]
        parts = []
        if node in self.tape.held:
            before, has = self.tape.held[node]
            first = max(kept.from_now[number], int(has[kept.dim][0]))
            parts.append(_cut(before, has, kept.dim, first, int(has[kept.dim][1])))
        if new is not None:
            parts.append((new, region))
            start, stop = region[kept.dim]
            self.computed[node].append((int(start), int(stop)))
        parts = [(value, region) for value, region in parts if elements(region)]
        if parts:
            self.tape.hold(node, *_joined(parts, kept.dim))

    def _count(self, step: int, node: Node, number: int, beside: int) -> None:
        """Everything held while `node` runs; a view, or what works in place, has taken its input's."""
        source = self.stretch.source
        size = {
            held: prod(value.shape) * self.model.bytes_per_element(held)
            for held, (value, _) in self.tape.held.items()
            if held is not source
        }
        if self.last_step.get(source, -1) >= step:
            read = tile(self.found.read[source], number)
            size[source] = int(elements(read)) * self.model.bytes_per_element(source)
        live = beside + sum(size.values())
        in_place = isinstance(map_of(node), Pointwise | ChannelParameters) or node.target in VIEWS
        if in_place and node in size:
            overwritten = [
                min(size[other], size[node])
                for other in node.all_input_nodes
                if self.last_step.get(other) == step
                and other in size
                and not self._is_left(other, number)
            ]
            live -= max(overwritten, default=0)
        self.result.peak_bytes = max(self.result.peak_bytes, live)

    def _is_left(self, node: Node, number: int) -> bool:
        """Whether later tiles read lines of the node that there are already."""
        kept = self.kept.get(node)
        return kept is not None and kept.later[number] < kept.end[number]

    def _drop(self, step: int, number: int) -> None:
        """What nobody in this tile reads after `step`, but for the lines of later tiles."""
        for node in list(self.tape.held):
            is_result = node is self.stretch.over and step < len(self.found.order)
            if is_result or node is self.stretch.source or self.last_step.get(node, -1) > step:
                continue
            value, region = self.tape.held.pop(node)
            if node in self.kept:
                kept = self.kept[node]
                first = max(kept.later[number], int(region[kept.dim][0]))
                left = _cut(value, region, kept.dim, first, int(region[kept.dim][1]))
                if elements(left[1]):
                    self.tape.hold(node, *left)


def _lines(held: Region, count: int) -> _Kept:
    (dim,) = (dim for dim, (_, stop) in enumerate(held) if not isinstance(stop, int))
    from_now, later, end = lines_needed(held[dim], count)
    return _Kept(dim, from_now.tolist(), later.tolist(), end.tolist())


def _cut(value: Tensor, region: Region, dim: int, start: int, stop: int) -> tuple[Tensor, Region]:
    first = int(region[dim][0])
    left = value.narrow(dim, min(start, stop) - first, max(0, stop - start)).clone()
    return left, tuple((start, stop) if d == dim else span for d, span in enumerate(region))


def _joined(parts: list[tuple[Tensor, Region]], dim: int) -> tuple[Tensor, Region]:
    """Parts that follow each other without a gap."""
    for (_, before), (_, after) in pairwise(parts):
        assert before[dim][1] == after[dim][0], "a stream computes every line that is read"
    value = parts[0][0] if len(parts) == 1 else aten.cat.default([part for part, _ in parts], dim)
    first, last = parts[0][1], parts[-1][1]
    return value, tuple((span[0], last[d][1]) if d == dim else span for d, span in enumerate(first))
