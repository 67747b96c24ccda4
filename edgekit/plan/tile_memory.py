"""Peaks of the tiles of one tensor, for every cut that a stretch to it could begin at, at once.

What is alive after a cut does not depend on where a stretch began, but for three things: the storage
that holds the cut tensor itself, which an earlier and larger tensor may have shared; what a stream
would have kept of tensors before the cut; and the cut tensor's lines, which are read again from the
whole one. So the run from the beginning of the network is computed once, and corrected for each cut.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.memory import MemoryModel, storages
from edgekit.plan.network import Network

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileBytes:
    """Bytes of each node's value, nodes x kinds of tiles: see TileSizes."""

    before: Floats
    during: Floats
    after: Floats


class TileMemory:
    """Storages of everything up to `over`, and where the stretches that begin at `sources` differ."""

    def __init__(
        self,
        network: Network,
        over: Node,
        sources: Sequence[Node],
        persisting: Collection[Node],
        model: MemoryModel,
    ) -> None:
        self.nodes = network.nodes[: network.position[over] + 1]
        self.held = storages(network, self.nodes, (over,), model, persisting)
        owner, last = np.array(self.held.owner), np.array(self.held.last)
        self.positions = np.array([network.position[source] for source in sources])
        self.own = owner[self.positions]
        self.ends = last[self.own]
        later = [
            [n for n in np.flatnonzero(owner == number) if n > position]
            for number, position in zip(self.own, self.positions, strict=True)
        ]
        self._later = _padded(later, len(self.nodes))
        between = [
            range(position + 1, end + 1)
            for position, end in zip(self.positions, self.ends, strict=True)
        ]
        self._between = _padded(between, len(self.nodes))
        self._earlier = np.searchsorted(np.array(self.held.first), self.positions, side="right")

    def peaks(self, sizes: TileBytes, sources: Floats) -> Floats:
        """The largest live bytes of any tile, for each source.

        `sources` are the bytes of the source's own piece, sources x kinds.
        """
        streams = bool(sizes.after.any())
        live = self.held.live_bytes(sizes.during)
        during = self.held.largest(sizes.during)
        own = np.maximum(sources, _with_row(sizes.during, 0.0)[self._later].max(axis=1))
        change = own - during[self.own]
        afterwards: Floats = np.zeros_like(change)
        if streams:
            after = self.held.largest(sizes.after)
            live += self.held.coming @ self.held.largest(sizes.before) + self.held.gone @ after
            kept = _with_row(sizes.after, 0.0)[self._later].max(axis=1)
            total = np.concatenate([np.zeros((1, after.shape[1])), np.cumsum(after, axis=0)])
            afterwards = total[self._earlier] - kept
            change -= total[self._earlier] - after[self.own]
        rest = np.maximum.accumulate(live[::-1], axis=0)[::-1]
        early = _with_row(live, -np.inf)[self._between].max(axis=1) + change
        late = _with_row(rest, -np.inf)[self.ends + 1] - afterwards
        peaks: Floats = np.maximum(early, late).max(axis=1)
        return peaks


def _padded(lists: Sequence[Sequence[int]], filler: int) -> npt.NDArray[np.int64]:
    width = max(1, *(len(items) for items in lists))
    return np.array([[*items, *[filler] * (width - len(items))] for items in lists], dtype=np.int64)


def _with_row(table: Floats, value: float) -> Floats:
    return np.concatenate([table, np.full((1, table.shape[1]), value)])
