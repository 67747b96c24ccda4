"""Cases whose memory is known, for the measuring process to import."""

from __future__ import annotations

import numpy as np

from edgekit.parity.memory_use import Prepared

MB = 1_000_000


def allocating(run_mb: int, *, load_mb: int = 0, kept_mb: int = 0) -> Prepared:
    """Takes and frees `load_mb` while it loads; a run returns `run_mb`."""
    np.ones(load_mb * MB, np.uint8)
    kept = np.ones(kept_mb * MB, np.uint8)

    def run() -> list[object]:
        return [np.ones(run_mb * MB, np.uint8), kept.shape]  # a run that holds what was loaded

    return Prepared(run, kept.nbytes, {"threads": 1})


def stepping(step_mb: int, steps: int) -> Prepared:
    """Frees each step's array before the next."""

    def run() -> None:
        for _ in range(steps):
            block = np.ones(step_mb * MB, np.uint8)
            del block

    return Prepared(run, 0, {})


def growing(run_mb: int) -> Prepared:
    """Keeps what every run takes."""
    kept: list[object] = []
    return Prepared(lambda: kept.append(np.ones(run_mb * MB, np.uint8)), 0, {})


def failing() -> Prepared:
    raise ValueError("the weights are missing.")
