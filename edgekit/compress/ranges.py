"""Which range of a value its codes cover: all of it, or less and finer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from edgekit.compress.range_histogram import RangeHistogram

RangeChoice = Literal["largest", "percentile", "error"]
SHARES = torch.linspace(0.2, 1.0, 65).tolist()
"""Of the observed range, that the search for the least error tries at either end."""
ROUNDS = 2


def chosen_range(
    seen: RangeHistogram, choice: RangeChoice, percentile: float, bits: int
) -> tuple[float, float]:
    """`largest` is all that was seen; `percentile` leaves half of the rest away at either end;
    `error` is the range of the least mean square error over all values seen."""
    if choice == "largest":
        return seen.least, seen.greatest
    if choice == "percentile":
        rest = (1 - percentile / 100) / 2
        return min(seen.quantile(rest), 0.0), max(seen.quantile(1 - rest), 0.0)
    return _least_error(seen, bits)


def _least_error(seen: RangeHistogram, bits: int) -> tuple[float, float]:
    """One end after the other, since both together would be thousands of ranges."""
    filled = seen.counts > 0
    values, counts = seen.centres[filled], seen.counts[filled]
    low, high = min(seen.least, 0.0), max(seen.greatest, 0.0)
    if high - low <= 0:
        return low, high

    def error(bottom: float, top: float) -> float:
        return float((counts * (rounded(values, bottom, top, bits) - values).square()).sum())

    ends = (low, high)
    for _ in range(ROUNDS):
        ends = ends[0], _best(high, partial(error, ends[0]))
        ends = _best(low, partial(lambda top, bottom: error(bottom, top), ends[1])), ends[1]
    return ends


def _best(end: float, error: Callable[[float], float]) -> float:
    """Of equal ones the widest."""
    ends: list[float] = [share * end for share in reversed(SHARES)]
    return min(ends, key=error)


def rounded(values: Tensor, low: float, high: float, bits: int) -> Tensor:
    """Through codes of a range whose ends are codes."""
    step = max(high - low, 1e-30) / (int(2**bits) - 1)
    zero = round(-low / step)
    codes = torch.round(values / step).clamp(-zero, int(2**bits) - 1 - zero)
    return codes * step
