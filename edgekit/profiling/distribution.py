"""Samples of one quantity, their percentiles, and how far their median can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
BLOCKS = 20
"""Neighbouring samples share what else the machine did, so that blocks of them are compared."""


@dataclass(frozen=True)
class Interval:
    """Of a median, at `CONFIDENCE`."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Distribution:
    """Samples in the order they were taken, milliseconds unless said otherwise."""

    samples: tuple[float, ...]

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.samples, share))

    @property
    def median(self) -> float:
        return self.percentile(50)

    @property
    def interval(self) -> Interval:
        return median_interval(self.samples)

    @property
    def drift(self) -> float:
        """Of the last quarter's median from the first one's, as a share of it: heat, or other work."""
        quarter = max(1, len(self.samples) // 4)
        first, last = (
            np.median(part) for part in (self.samples[:quarter], self.samples[-quarter:])
        )
        return float(last / first - 1) if first else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "p50": self.median,
            "p90": self.percentile(90),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "min": min(self.samples),
            "mean": float(np.mean(self.samples)),
            "spread": self.percentile(75) - self.percentile(25),
            "interval": [self.interval.low, self.interval.high],
            "drift": self.drift,
            "samples": list(self.samples),
        }


def median_interval(samples: Sequence[float]) -> Interval:
    """Order statistics, which assume no shape of the noise, as far from the middle as blocks differ.

    How many samples lie below the true median varies from block to block by chance, and more if what
    disturbs them lasts. The quantile is Student's, by the first terms of its expansion in 1/n.
    """
    values = np.asarray(samples, dtype=np.float64)
    ordered, middle = np.sort(values), np.median(values)
    below = (values < middle) + 0.5 * (values == middle)
    blocks = [
        part.sum() - 0.5 * len(part) for part in np.array_split(below, min(BLOCKS, len(below)))
    ]
    freedom = max(1, len(blocks) - 1)
    quantile = 1.96 + 2.37 / freedom + 2.82 / freedom**2
    # At least what independent samples have: a few blocks can agree by chance.
    variance = max(len(values) / 4, float(np.square(blocks).sum()))
    reach = quantile * np.sqrt(variance)
    last = len(values) - 1
    low = max(0, int(np.floor(last / 2 - reach)))
    return Interval(float(ordered[low]), float(ordered[last - low]))
