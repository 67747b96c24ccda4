"""Numbers that change over a stage: learning rates, and weights of losses.

A schedule takes the step, from 0, and the steps of the stage, and gives a factor. Those here are
frozen data, so that a run's recipe can hold them; any function of the two numbers does as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int, int], float]


@dataclass(frozen=True)
class Constant:
    def __call__(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear:
    """From `start` to `end`, which is reached at step `over` and kept; None: at the stage's last."""

    start: float = 0.0
    end: float = 1.0
    over: int | None = None

    def __call__(self, step: int, steps: int) -> float:
        last = steps - 1 if self.over is None else self.over
        share = min(1.0, step / last) if last > 0 else 1.0
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Cosine:
    """A linear warm-up, times half a cosine from 1 to `end`."""

    warmup: int = 0
    end: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return warm * (self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * step / steps)))


@dataclass(frozen=True)
class MultiStep:
    """Times `factor` at each of the steps `at`."""

    at: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0

    def __call__(self, step: int, steps: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return float(warm * self.factor ** sum(step >= place for place in self.at))
