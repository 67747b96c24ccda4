"""Boxes of a tensor's elements: one half-open span [start, stop) for each of its dimensions.

Bounds are integers, or integer arrays that hold one bound per tile: every index map is plain
arithmetic, so one walk through a network serves all tiles of a grid at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bound = int | npt.NDArray[np.int64]
Span = tuple[Bound, Bound]
Region = tuple[Span, ...]
NEVER = 1 << 40
"""A bound beyond every tensor."""


def whole(shape: Sequence[int]) -> Region:
    return tuple((0, size) for size in shape)


def is_full(span: Span, size: int) -> bool:
    """Whether the span covers its dimension, in every tile."""
    return bool(np.all(np.equal(span[0], 0)) and np.all(np.equal(span[1], size)))


def lower(one: Bound, other: Bound) -> Bound:
    """The smaller bound, in each tile."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return np.minimum(one, other)


def upper(one: Bound, other: Bound) -> Bound:
    """The larger bound, in each tile."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    return np.maximum(one, other)


def chosen(condition: Any, one: Bound, other: Bound) -> Bound:
    """`one` in the tiles where the condition holds, else `other`."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, one, other)
    return one if condition else other


def hull(regions: Iterable[Region]) -> Region:
    """The smallest box around some boxes of one tensor."""
    first, *others = regions
    for region in others:
        first = tuple(
            (lower(a, c), upper(b, d)) for (a, b), (c, d) in zip(first, region, strict=True)
        )
    return first


def nothing_where(idle: npt.NDArray[np.bool_], region: Region) -> Region:
    """The region, with a box that every hull ignores in the tiles that ask for nothing."""
    return tuple(
        (np.where(idle, NEVER, start), np.where(idle, -NEVER, stop))
        if isinstance(start, np.ndarray) or isinstance(stop, np.ndarray)
        else (start, stop)
        for start, stop in region
    )


def clip(span: Span, size: int) -> Span:
    """The part of a span inside [0, size), never empty: a span wholly outside keeps the edge."""
    start = upper(lower(span[0], size - 1), 0)
    return start, lower(upper(span[1], start + 1), size)


def ceil_div(value: Bound, divisor: int) -> Bound:
    return -((-value) // divisor)


def lengths(region: Region) -> tuple[Bound, ...]:
    """Extent along each dimension; 0 where a tile asks for nothing."""
    return tuple(upper(stop - start, 0) for start, stop in region)


def elements(region: Region) -> Bound:
    """Number of elements, of each tile."""
    count: Bound = 1
    for length in lengths(region):
        count = count * length
    return count


def tile(region: Region, index: int) -> Region:
    """The box of one tile, as plain integers."""
    return tuple((_one(start, index), _one(stop, index)) for start, stop in region)


def _one(bound: Bound, index: int) -> int:
    return int(bound[index]) if isinstance(bound, np.ndarray) else int(bound)
