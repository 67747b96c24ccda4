"""A histogram of values that arrive bit by bit, of a size that does not grow with them.

When a value lies outside, the range doubles on that side and neighbouring bins are merged in pairs: no count
is lost or split, and one pass is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 2048


@dataclass
class RangeHistogram:
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    start: float = 0.0
    """Where the first bin begins."""
    width: float = 0.0
    """Of a bin; 0 before the first value."""
    least: float = 0.0
    greatest: float = 0.0

    @property
    def stop(self) -> float:
        return self.start + self.width * len(self.counts)

    @property
    def centres(self) -> Tensor:
        return self.start + self.width * (torch.arange(len(self.counts)).double() + 0.5)

    def add(self, values: Tensor) -> None:
        """Finite values of any shape."""
        flat = values.detach().flatten().float()
        if not len(flat):
            return
        least, greatest = (float(value) for value in torch.aminmax(flat))
        if self.width == 0.0:
            self.least, self.greatest = least, greatest
            span = max(greatest - least, 1e-6 * max(abs(least), abs(greatest)), 1e-30)
            self.start, self.width = least, 1.001 * span / len(self.counts)
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        while greatest >= self.stop:
            self._double(upwards=True)
        while least < self.start:
            self._double(upwards=False)
        self.counts += torch.histc(flat, len(self.counts), self.start, self.stop)

    def _double(self, *, upwards: bool) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        empty = torch.zeros_like(pairs)
        if not upwards:
            self.start -= self.width * len(self.counts)
        self.counts = torch.cat([pairs, empty] if upwards else [empty, pairs])
        self.width *= 2

    def quantile(self, share: float) -> float:
        """The value that `share` of all lie below, to half a bin."""
        reached = self.counts.cumsum(0) >= share * self.counts.sum()
        place = int(torch.argmax(reached.to(torch.uint8)))
        return min(max(float(self.centres[place]), self.least), self.greatest)
