"""Peaks of the tiles of one tensor, for every cut that a stretch to it could begin at, at once.

What is alive after a cut does not depend on where a stretch began, but for three things: the storage
that holds the cut tensor itself, which an earlier and larger tensor may have shared; what a stream
would have kept of tensors before the cut; and the cut tensor's lines, which are read again from the
whole one. So the run from the beginning of the network is computed once, and corrected for each cut.

A stream's kept lines are either where they are, from one tile to the next (microcontrollers), or in
arrays that a model is given and gives back (`model.windows_copied`): those that it is given are held
during its whole run, those that it gives back from where they are made, and where new lines are
joined to them both are there beside the joined tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.memory import VIEWS, MemoryModel, storages
from edgekit.plan.network import Network

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileBytes:
    """Bytes of each node's value, nodes x kinds of tiles: see TileSizes."""

    before: Floats
    during: Floats
    after: Floats
    fresh: Floats
    others: Floats
    """Kept lines of the other strips, where all of them are alive at once."""

    @classmethod
    def of_tiles(cls, during: Floats) -> TileBytes:
        nothing = np.zeros_like(during)
        return cls(nothing, during, nothing, during, nothing)


class TileMemory:
    """Storages of everything up to `over`, and where the stretches that begin at `sources` differ."""

    def __init__(
        self,
        network: Network,
        over: Node,
        sources: Sequence[Node],
        persisting: Collection[Node],
        model: MemoryModel,
        *,
        streams: bool,
    ) -> None:
        self.nodes = network.nodes[: network.position[over] + 1]
        self.held = storages(network, self.nodes, (over,), model, persisting)
        self.streams = streams
        self.copied = model.windows_copied
        self.handed_on = streams and model.windows_copied
        owner = np.array(self.held.owner)
        self.positions = np.array([network.position[source] for source in sources])
        self.own = owner[self.positions]
        self.ends = np.array(self.held.last)[self.own]
        self.later = [
            [n for n in np.flatnonzero(owner == number) if n > position]
            for number, position in zip(self.own, self.positions, strict=True)
        ]
        if self.copied:
            # An input of a model is never overwritten; what only looks at it is no tensor of its own.
            self.later = [
                self._without_views(later, position)
                for later, position in zip(self.later, self.positions, strict=True)
            ]
        self._first = np.array(self.held.first)
        self._last = np.array(self.held.last)

    def _without_views(self, later: list[int], position: int) -> list[int]:
        seen = {self.nodes[position]}
        for number in later:
            node = self.nodes[number]
            if node.target in VIEWS and set(node.all_input_nodes) & seen:
                seen.add(node)
        return [number for number in later if self.nodes[number] not in seen]

    def live_bytes(self, sizes: TileBytes) -> Floats:
        """Alive at each step of a run from the network's beginning, steps x kinds."""
        during = self.held.largest(sizes.during)
        live = self._alive(during)
        if self.handed_on:
            handed = np.cumsum(sizes.after, axis=0)
            live += handed - sizes.after + self._where_joined(sizes, during)
        elif self.streams:
            before, after = self.held.largest(sizes.before), self.held.largest(sizes.after)
            live += before.sum(axis=0) - _until(before, self._first, len(live))
            live += _before(after, self._last, len(live))
        return live

    def _alive(self, during: Floats) -> Floats:
        count = len(self.nodes)
        return _until(during, self._first, count) - _before(during, self._last, count)

    def _where_joined(self, sizes: TileBytes, during: Floats) -> Floats:
        """Beyond what is alive at each step: kept lines are joined to new ones, then copied."""
        ending = np.zeros_like(sizes.during)
        np.add.at(ending, self._last, during)
        joined = np.where((sizes.before > 0) & (sizes.fresh > 0), sizes.fresh, 0)
        joining = np.where(joined > 0, joined - np.minimum(sizes.during, ending), 0)
        beyond: Floats = np.maximum(np.maximum(joining, sizes.after - ending), 0)
        return beyond

    def peaks(self, sizes: TileBytes, sources: Floats) -> Floats:
        """The largest live bytes of any tile, for each source.

        `sources` are the bytes of the source's own piece, sources x kinds.
        """
        live = self.live_bytes(sizes)
        rest = np.maximum.accumulate(live[::-1], axis=0)[::-1]
        rest = np.concatenate([rest, np.full((1, rest.shape[1]), -np.inf)])
        early, late = self._corrections(sizes, sources)
        peaks: Floats = rest[self.ends + 1] + late
        for row, (position, end) in enumerate(zip(self.positions, self.ends, strict=True)):
            if end > position:
                own = live[position + 1 : end + 1].max(axis=0) + early[row]
                peaks[row] = np.maximum(peaks[row], own)
        return peaks

    def steps(self, sizes: TileBytes, sources: Floats) -> Floats:
        """Live bytes from the first source's step to the last, steps x kinds."""
        live = self.live_bytes(sizes)
        early, late = self._corrections(sizes, sources)
        position, end = int(self.positions[0]), int(self.ends[0])
        live[: end + 1] += early[0]
        live[end + 1 :] += late[0]
        live[position] = sources[0]
        found: Floats = live[position:]
        return found

    def _corrections(self, sizes: TileBytes, sources: Floats) -> tuple[Floats, Floats]:
        """What changes for each source: while its storage is alive, and afterwards."""
        during = self.held.largest(sizes.during)[self.own]
        later = np.array([sizes.during[rows].max(axis=0, initial=0.0) for rows in self.later])
        if (
            not self.streams and self.copied
        ):  # the host holds a tile's input until its run has ended
            return sources + later - during, sources
        if not self.streams:
            return np.maximum(sources, later) - during, np.zeros_like(later)
        kept = sizes.others + sizes.before if self.handed_on else sizes.others
        constant = kept.sum(axis=0) - np.cumsum(kept, axis=0)[self.positions]
        if self.handed_on:
            constant += sources - np.cumsum(sizes.after, axis=0)[self.positions]
            return constant + later - during, constant
        after = self.held.largest(sizes.after)
        until = np.searchsorted(self._first, self.positions, side="right") - 1
        constant -= np.cumsum(after, axis=0)[until]
        kept_later = np.array([sizes.after[rows].max(axis=0, initial=0.0) for rows in self.later])
        early = np.maximum(sources, later) - during + after[self.own]
        return constant + early, constant + kept_later


def _until(table: Floats, first: npt.NDArray[np.int64], count: int) -> Floats:
    """Of each step: the sum over storages that are written at it or before; `first` grows."""
    total = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
    found: Floats = total[np.searchsorted(first, np.arange(count), side="right")]
    return found


def _before(table: Floats, last: npt.NDArray[np.int64], count: int) -> Floats:
    """Of each step: the sum over storages that are read before it for the last time."""
    order = np.argsort(last, kind="stable")
    total = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table[order], axis=0)])
    found: Floats = total[np.searchsorted(last[order], np.arange(count), side="left")]
    return found
