"""Which tilings of a tensor the search tries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch.fx import Node

from edgekit.plan.frames import FrameAxis
from edgekit.plan.maps.index_map import shape
from edgekit.plan.path import EVERY, Tiling

SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of tiles along one dimension that the search tries."""
SIDES_IN_TIME = (1, 2, 3, 4, 6, 8, 12, 16)
"""Of tiles that are cut in time too, and of strips whose frames stream."""
STRIPS = (1, 2, 3, 4, 6, 8)
"""Numbers of strips for a stream, beside those whose width is one of the following."""
STRIP_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
LINES = (1, 2)
"""Lines a step of a stream whose kept lines stay where they are."""
LINES_COPIED = (1, 2, 4, 8, 16, 32)
"""Lines a step where each step is the run of a model."""
MOST_STEPS_COPIED = 256
AGAIN = (0, 1, 2, EVERY)
"""Numbers of expansions that a stream computes again: early ones are the large and cheap ones."""
AGAIN_COPIED = (0, EVERY)
MOST_TILES = 4096


@dataclass(frozen=True)
class Choice:
    """What is tried for one tensor."""

    over: Node
    axis: FrameAxis | None
    expansions: int
    """Up to this tensor."""
    streams: bool
    copied: bool
    """Kept lines are handed from run to run of a model."""
    symmetric: bool
    """Rows and columns are alike: only one of them needs to be tried."""

    @property
    def sides(self) -> tuple[int, int]:
        height, width = shape(self.over)[-2:]
        return height, width

    @property
    def frames(self) -> int:
        return 1 if self.axis is None else shape(self.over)[self.axis.dim]

    def only(self, wanted: Tiling) -> Iterator[Tiling]:
        """One grid, as far as the tensor is large enough."""
        height, width = self.sides
        tiling = replace(
            wanted,
            rows=min(wanted.rows, height),
            columns=min(wanted.columns, width),
            frames=min(wanted.frames, self.frames),
        )
        if tiling.count > 1:
            yield tiling

    def tilings(self) -> Iterator[Tiling]:
        yield from self._grids(SIDES, 1)
        for frames in _halved(self.frames):
            yield Tiling(frames=frames)
            yield from self._grids(SIDES_IN_TIME, frames)
        if self.streams:
            for again in self._again():
                yield from self._streams_of_lines(again)
                yield from self._streams_of_frames(again)

    def _grids(self, sides: tuple[int, ...], frames: int) -> Iterator[Tiling]:
        height, width = self.sides
        for rows in sides[1:]:
            if rows <= min(height, width) and frames * rows * rows <= MOST_TILES:
                yield Tiling(rows, rows, frames=frames)
            if rows <= height:
                yield Tiling(rows, 1, frames=frames)

    def _again(self) -> Iterator[int]:
        """Without numbers that come to the same as EVERY."""
        for again in AGAIN_COPIED if self.copied else AGAIN:
            if again < self.expansions or (again == EVERY and self.expansions):
                yield again
        if not self.expansions:
            yield 0

    def _streams_of_lines(self, again: int) -> Iterator[Tiling]:
        height, width = self.sides
        for lines in self._lines(again):
            if self._is_sensible(-(-height // lines), lines):
                for strips in self._strips(width):
                    yield Tiling(-(-height // lines), strips, "rows", again)
            if self.symmetric:
                continue
            if self._is_sensible(-(-width // lines), lines):
                for strips in self._strips(height):
                    yield Tiling(strips, -(-width // lines), "columns", again)

    def _lines(self, again: int) -> tuple[int, ...]:
        if self.copied:
            return LINES_COPIED
        # Several lines cost memory; they are worth it where a step computes some again.
        return LINES if again == EVERY or not self.expansions else LINES[:1]

    def _is_sensible(self, steps: int, lines: int) -> bool:
        return steps > 1 and (
            not self.copied or steps <= MOST_STEPS_COPIED or lines == LINES_COPIED[-1]
        )

    def _strips(self, size: int) -> list[int]:
        some = {n for n in STRIPS if n <= size}
        return sorted(some if self.copied else some | {-(-size // wide) for wide in STRIP_WIDTHS})

    def _streams_of_frames(self, again: int) -> Iterator[Tiling]:
        if self.axis is None or again not in (0, EVERY):
            return
        height, width = self.sides
        stream: Literal["frames"] = "frames"
        for steps in _halved(int(self.axis.needed[-1])):
            if len(self.axis.spans(steps)) < 2:
                continue
            for rows in SIDES_IN_TIME:
                if rows <= height:
                    yield Tiling(rows, 1, stream, again, steps)
                if 1 < rows <= min(height, width):
                    yield Tiling(rows, rows, stream, again, steps)


def _halved(size: int) -> Iterator[int]:
    """size, size/2, ... down to 2."""
    while size > 1:
        yield size
        size = -(-size // 2) if size > 2 else 1
