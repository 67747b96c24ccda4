"""A stream: tiles that follow each other along one dimension, of which each computes only what is new.

A step joins the lines that earlier steps have kept of a tensor to those that it computes, and keeps
what later steps read again. Lines are rows, columns or frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.network import Boxes, Network, boxes
from edgekit.plan.region import Region, elements, tile
from edgekit.plan.tape import BoxTape
from edgekit.plan.tile_sizes import lines_needed

aten = torch.ops.aten


@dataclass(frozen=True)
class KeptLines:
    """Of one tensor: which of its lines are held, step by step."""

    dim: int
    held: Region
    later: tuple[int, ...]
    """The first line that a later step reads."""
    end: tuple[int, ...]
    """The end of what has been computed when the step is over."""

    @property
    def are_any(self) -> bool:
        return any(self.after(step) for step in range(len(self.end)))

    def before(self, step: int) -> Region | None:
        """What a step gets from those before it."""
        return self.after(step - 1) if step else None

    def after(self, step: int) -> Region | None:
        """What a step leaves for those behind it."""
        if self.later[step] >= self.end[step]:
            return None
        return self._box((self.later[step], self.end[step]))

    def behind(self, step: int, received: Region) -> Region | None:
        """As many of the last lines there are as were received."""
        first, last = received[self.dim]
        end = self.end[step]
        start = end - (int(last) - int(first))
        return self._box((start, end)) if start >= int(first) else None

    def _box(self, lines: tuple[int, int]) -> Region:
        return tuple(lines if dim == self.dim else span for dim, span in enumerate(self.held))


@dataclass(frozen=True)
class Stream:
    """Everything between a source and one strip of a result, as steps."""

    source: Node
    over: Node
    strip: Region
    """Of `over`, with one span per step along one dimension."""
    found: Boxes
    kept: dict[Node, KeptLines]
    count: int

    def read(self, step: int) -> Region | None:
        """The box of the source that a step reads; earlier steps may have read part of it."""
        read = tile(self.found.read[self.source], step)
        return read if elements(read) else None

    def written(self, step: int) -> Region:
        """The box of the result that a step gives."""
        return tile(self.strip, step)

    def carried(self, step: int) -> Iterator[tuple[Node, Region]]:
        """What the step takes over from those before, and reads or changes."""
        for node, lines in self.kept.items():
            box = lines.before(step)
            left = lines.after(step)
            if box is not None and (self._reads(node, step) or left not in (None, box)):
                yield node, box

    def left(self, step: int, *, goes_on: bool = False) -> Iterator[tuple[Node, Region]]:
        """What the step hands on that it has not just received.

        If the last one `goes_on`, it hands on as much as the step before it, for nobody: so it may be
        the same program.
        """
        for node, lines in self.kept.items():
            received, box = lines.before(step), lines.after(step)
            if goes_on and step == self.count - 1 and received is not None:
                box = lines.behind(step, received)
            if box is not None and box != received:
                yield node, box

    def _reads(self, node: Node, step: int) -> bool:
        return any(
            elements(tile(self.found.computed[reader], step))
            for reader in node.users
            if reader in self.found.computed
        )

    def run(self, tape: BoxTape, step: int) -> None:
        """Emit a step on a tape that holds the source and what is `carried`; it then holds the rest."""
        for node in self.found.order:
            region = tile(self.found.computed[node], step)
            new = None
            if elements(region):
                tape.origin = node
                new = map_of(node).emit(node, region, tape)
            if node in self.kept:
                self._join(tape, node, new, region)
            elif new is not None:
                tape.hold(node, new, region)

    def _join(self, tape: BoxTape, node: Node, new: Any, region: Region) -> None:
        dim = self.kept[node].dim
        if new is None:
            return
        if node not in tape.held:
            tape.hold(node, new, region)
            return
        before, box = tape.held[node]
        joined = tape.call(aten.cat.default, [before, new], dim)
        lines = (box[dim][0], region[dim][1])
        tape.hold(node, joined, tuple(lines if d == dim else span for d, span in enumerate(region)))

    def forget(self, tape: BoxTape, step: int) -> None:
        """Leave on the tape what later steps read, and the source."""
        keep = {node: box for node, lines in self.kept.items() if (box := lines.after(step))}
        for node in list(tape.held):
            if node in keep:
                tape.hold(node, tape.operand(node, keep[node]), keep[node])
            elif node is not self.source:
                del tape.held[node]


def stream_of(
    network: Network, source: Node, over: Node, strip: Region, count: int, thin: Collection[Node]
) -> Stream:
    """The steps that `strip` has one span for each of, along one dimension.

    Of `thin` tensors lines are kept; others are computed again from those.
    """
    thin = set(thin)
    while True:
        found = boxes(network, (source,), {over: strip}, thin)
        moving = {node: _moving(found.held[node]) for node in found.order if node in thin}
        kept = {
            node: _lines(found.held[node], dims[0], count)
            for node, dims in moving.items()
            if len(dims) == 1
        }
        # Lines are kept of one dimension, and without gaps.
        awkward = {node for node, dims in moving.items() if len(dims) > 1}
        awkward |= {node for node, lines in kept.items() if not _is_seamless(found, node, lines)}
        if not awkward:
            kept = {node: lines for node, lines in kept.items() if lines.are_any}
            return Stream(source, over, strip, found, kept, count)
        thin -= awkward


def _moving(held: Region) -> list[int]:
    """Dimensions along which the steps differ."""
    return [dim for dim, (_, stop) in enumerate(held) if isinstance(stop, np.ndarray)]


def _lines(held: Region, dim: int, count: int) -> KeptLines:
    _, later, end = (tuple(lines.tolist()) for lines in lines_needed(held[dim], count))
    return KeptLines(dim, held, later, end)


def _is_seamless(found: Boxes, node: Node, lines: KeptLines) -> bool:
    """Whether each step's new lines follow on those that it gets."""
    count = len(lines.end)
    start, stop = (np.broadcast_to(bound, (count,)) for bound in found.computed[node][lines.dim])
    return all(
        lines.after(step - 1) is None
        or stop[step] <= start[step]
        or start[step] == lines.end[step - 1]
        for step in range(1, count)
    )
