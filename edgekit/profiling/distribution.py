"""Samples of one quantity, their percentiles, and how far their median can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
BLOCKS = 20
"""Neighbouring samples share what else the machine did, so that blocks of them are compared."""
RUNS_OF_ONE_DEGREE = 3
"""Samples, as good as independent, for each degree of freedom of a variance from covariances: found by simulation."""
Floats = npt.NDArray[np.float64]


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
    """Order statistics, which assume no shape of the noise, as far from the middle as what disturbs samples lasts.

    How many samples lie below the true median varies by chance, and more if neighbours are alike: its variance is the
    largest of what independent samples have, of what blocks of neighbours show (slow changes), and of the sum of
    covariances (quick ones). The quantile is Student's, by the first terms of its expansion in 1/n.
    """
    values = np.asarray(samples, dtype=np.float64)
    ordered, middle = np.sort(values), np.median(values)
    below = (values < middle) + 0.5 * (values == middle) - 0.5
    parts = np.array_split(below, min(BLOCKS, len(below)))
    independent, freedom = len(values) / 4, max(1, len(parts) - 1)
    in_blocks = float(sum(part.sum() ** 2 for part in parts)) * len(parts) / freedom
    together = _summed_covariances(below)
    like_independent = len(values) * independent / max(independent, together)
    reach = max(
        _quantile(freedom) * max(independent, in_blocks) ** 0.5,
        _quantile(max(1.0, like_independent / RUNS_OF_ONE_DEGREE))
        * max(independent, together) ** 0.5,
    )
    last = len(values) - 1
    low = max(0, int(np.floor(last / 2 - reach)))
    return Interval(float(ordered[low]), float(ordered[last - low]))


def _quantile(freedom: float) -> float:
    return 1.96 + 2.37 / freedom + 2.82 / freedom**2


def _summed_covariances(centred: Floats) -> float:
    """Variance of the sum of a series, by Geyer's initial monotone sequence (Practical Markov Chain Monte Carlo, 1992):
    covariances in pairs of lags, until a pair is not positive."""
    count = len(centred)
    spectrum = np.fft.rfft(centred, 2 * count)
    covariances = np.fft.irfft(spectrum * np.conj(spectrum))[:count] / count
    total, before = -covariances[0], np.inf
    for lag in range(0, count - 1, 2):
        pair = min(before, covariances[lag] + covariances[lag + 1])
        if pair <= 0:
            break
        total, before = total + 2 * pair, pair
    return float(count * max(total, covariances[0]))
