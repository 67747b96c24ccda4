"""A bounded summary of a tensor, so that two runs can be compared without holding either."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SAMPLES = 16_384
"""Elements kept of a value; smaller values are kept whole."""
_TOO_SMALL_TO_RECOGNISE = 16


@dataclass(frozen=True)
class Sketch:
    """Elements at positions that depend on the size only, and facts about all elements."""

    shape: tuple[int, ...]
    sample: npt.NDArray[np.float64]
    peak: float
    """Largest finite magnitude of all elements."""
    nonfinite: int

    @property
    def is_distinctive(self) -> bool:
        """Whether its content can identify a value: not constant, not a handful of numbers."""
        if self.nonfinite or math.prod(self.shape) < _TOO_SMALL_TO_RECOGNISE:
            return False
        return bool(np.ptp(self.sample) > 0)


def sketch(value: npt.NDArray[np.generic]) -> Sketch:
    flat = value.reshape(-1)
    finite = np.isfinite(flat)
    nonfinite = int(flat.size - np.count_nonzero(finite))
    peak = np.abs(flat if nonfinite == 0 else flat[finite]).max(initial=0)
    if flat.size > SAMPLES:
        flat = flat[_positions(flat.size)]
    return Sketch(value.shape, flat.astype(np.float64), float(peak), nonfinite)


@dataclass(frozen=True)
class Deviation:
    relative: float
    """The larger of |difference| / |expected| in L2 and in the maximum norm."""
    max_abs: float


def deviation(expected: Sketch, actual: Sketch) -> Deviation:
    """Infinite where one has NaN or Inf and the other has not. The shapes must be equal."""
    if expected.nonfinite != actual.nonfinite:
        return Deviation(math.inf, math.inf)
    both = np.isfinite(expected.sample) & np.isfinite(actual.sample)
    wanted = expected.sample[both]
    difference = actual.sample[both] - wanted
    # The peaks are of all elements, so a lone outlier between the samples still counts.
    max_abs = max(float(np.abs(difference).max(initial=0.0)), abs(actual.peak - expected.peak))
    tiny = 1e-12
    in_l2 = float(np.linalg.norm(difference)) / max(float(np.linalg.norm(wanted)), tiny)
    return Deviation(max(in_l2, max_abs / max(expected.peak, tiny)), max_abs)


@lru_cache(maxsize=16)
def _positions(size: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(size).integers(0, size, SAMPLES))
