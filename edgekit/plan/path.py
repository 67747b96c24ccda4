"""What a search finds: a path through a network's cuts, and how each stretch of it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch.fx import Node

from edgekit.plan.frames import FrameAxis
from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network
from edgekit.plan.tile_sizes import IntSpan, cell_of, split, steps

EVERY = 1 << 16
"""As a number of expansions: all of them."""


@dataclass(frozen=True)
class Tiling:
    """How a stretch is cut: frames x rows x columns of tiles, or strips in which one of them streams.

    With `stream` "rows", each of `columns` strips is run down its `rows` steps, and so on: tiles that
    follow each other along the streamed dimension keep what the next ones need.
    """

    rows: int = 1
    columns: int = 1
    stream: Literal["", "frames", "rows", "columns"] = ""
    again: int = 0
    """Of so many expansions, from the network's first on, a stream keeps the thin input and expands
    it again, instead of keeping what is expanded."""
    frames: int = 1
    """Of a stream: equal portions of the network's input frames (see FrameAxis.spans)."""
    portion: int | None = None
    """How many input frames a portion has; None for equal ones."""

    def __str__(self) -> str:
        form = f"{self.rows}x{self.columns}"
        if self.frames > 1:
            form = f"{self.frames}x{form}"
        if not self.stream:
            return form
        which = "" if self.again == EVERY else f"first {self.again} "
        return f"{form} streaming {self.stream}" + (
            f", {which}expansions again" if self.again else ""
        )

    @property
    def count(self) -> int:
        return self.frames * self.rows * self.columns


WHOLE = Tiling()


def tile_spans(
    network: Network, over: Node, tiling: Tiling, axis: FrameAxis | None
) -> dict[int, list[IntSpan]]:
    """By dimension: the spans that a tiling cuts a tensor into, where it cuts it.

    `axis` is that of the tensor's frames.
    """
    sizes = shape(over)
    found = {}
    for name, dim, parts in (("rows", -2, tiling.rows), ("columns", -1, tiling.columns)):
        if parts > 1:
            found[len(sizes) + dim] = (
                steps(sizes[dim], parts)
                if tiling.stream == name
                else split(sizes[dim], parts, cell_of(network, over, dim))
            )
    if axis is not None and tiling.frames > 1:
        streams = tiling.stream == "frames"
        found[axis.dim] = (
            axis.spans(tiling.frames, tiling.portion)
            if streams
            else split(sizes[axis.dim], tiling.frames)
        )
    return found


def streamed_dim(over: Node, tiling: Tiling, axis: FrameAxis | None) -> int | None:
    """The dimension along which tiles follow each other as a stream, if they do."""
    rank = len(shape(over))
    if tiling.stream == "frames":
        return axis.dim if axis is not None and tiling.frames > 1 else None
    dims = {"rows": (rank - 2, tiling.rows), "columns": (rank - 1, tiling.columns)}
    dim, parts = dims.get(tiling.stream, (0, 1))
    return dim if parts > 1 else None


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
    """Multiply-accumulates, and those that runs and copies are worth where windows are copied."""
    worst: str = ""
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
        return self.macs / self.whole_macs - 1 if self.whole_macs else 0.0

    @property
    def worst(self) -> Stretch:
        return max(self.stretches, key=lambda stretch: stretch.peak_bytes)


def one_run(first: Stretch, second: Stretch) -> Stretch | None:
    """Two stretches as one, if both run at once."""
    if first.tiling != WHOLE or second.tiling != WHOLE:
        return None
    worst = max(first, second, key=lambda stretch: stretch.peak_bytes)
    return Stretch(
        first.source,
        second.result,
        second.result,
        WHOLE,
        worst.peak_bytes,
        max(first.run_bytes, second.run_bytes),
        first.macs + second.macs,
        first.cost + second.cost,
        worst.worst,
    )
