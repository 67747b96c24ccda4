"""What a search finds: a path through a network's cuts, and how each stretch of it runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

EVERY = 1 << 16
"""As a number of expansions: all of them."""


@dataclass(frozen=True)
class Tiling:
    """How a stretch is cut: rows x columns of tiles, or strips in which lines stream.

    With `stream` "rows", each of `columns` strips is run down its `rows` lines; with "columns", each
    of `rows` strips is run along its `columns`.
    """

    rows: int = 1
    columns: int = 1
    stream: str = ""
    again: int = 0
    """Of so many expansions, from the network's first on, a stream keeps the thin input and expands
    it again, instead of keeping what is expanded."""

    def __str__(self) -> str:
        form = f"{self.rows}x{self.columns}"
        if not self.stream:
            return form
        which = "" if self.again == EVERY else f"first {self.again} "
        return f"{form} streaming {self.stream}" + (
            f", {which}expansions again" if self.again else ""
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

    @property
    def runs(self) -> tuple[Stretch, ...]:
        """The stretches, with neighbours that run at once joined to one."""
        joined: list[Stretch] = []
        for stretch in self.stretches:
            if joined and stretch.tiling == joined[-1].tiling == WHOLE:
                joined[-1] = _one_run(joined[-1], stretch)
            else:
                joined.append(stretch)
        return tuple(joined)


def _one_run(first: Stretch, second: Stretch) -> Stretch:
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
