"""Probabilities to integer frequencies that sum to 65,536, as CompressAI rounds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError

PROBABILITY_BITS = 16
TOTAL = 1 << PROBABILITY_BITS


def quantised_cdf(probabilities: Sequence[float] | npt.NDArray[np.floating]) -> list[int]:
    """The lower ends of all entries and 65,536: one number more than there are probabilities.

    They need not sum to 1; the last one belongs to the escape entry. Every entry gets a frequency
    of at least 1. Two machines whose probabilities differ in the last bit get different tables,
    so a table is made once and shipped: a single count changes the whole stream.

    Raises UsageError for fewer than two probabilities, more than 65,536, or none that is above 0.
    """
    values = np.asarray(probabilities, np.float32).ravel()
    if not 2 <= values.size <= TOTAL:
        raise UsageError(
            f"A frequency table takes 2 to {TOTAL} probabilities (the last one for escapes), not {values.size}."
        )
    if not np.isfinite(values).all() or values.min() < 0:
        raise UsageError("Probabilities of a frequency table must be finite and not negative.")
    # Half away from zero, in double: 65,536 times a float32 is exact, and + 0.5 has room.
    counts = [int(count) for count in np.floor(values.astype(np.float64) * TOTAL + 0.5)]
    total = sum(counts)
    if total == 0:
        raise UsageError("Probabilities of a frequency table are all zero or too small to count.")
    widths = [TOTAL * count // total for count in counts]
    widths[-1] += TOTAL - sum(widths)
    _give_each_one(widths)
    ends = [0]
    for width in widths:
        ends.append(ends[-1] + width)
    return ends


def _give_each_one(widths: list[int]) -> None:
    """Each empty entry, from the left, takes one from the first of the narrowest wider than 1."""
    for index, width in enumerate(widths):
        if width == 0:
            donor = min((i for i, other in enumerate(widths) if other > 1), key=widths.__getitem__)
            widths[donor] -= 1
            widths[index] = 1
