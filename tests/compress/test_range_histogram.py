"""Streaming histograms and the ranges that are chosen from them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.range_histogram import BINS, RangeHistogram
from edgekit.compress.ranges import chosen_range, rounded

CHUNKS = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), min_size=1, max_size=6
)


@given(CHUNKS)
def test_no_value_is_lost_however_the_chunks_come(chunks: list[list[float]]) -> None:
    seen = RangeHistogram()
    for chunk in chunks:
        seen.add(torch.tensor(chunk))
    flat = np.concatenate([np.array(chunk, np.float32) for chunk in chunks])
    assert seen.counts.sum() == len(flat)
    assert (seen.least, seen.greatest) == (flat.min(), flat.max())
    assert len(seen.counts) == BINS


@given(CHUNKS, st.floats(0.05, 0.95))
def test_a_quantile_is_within_two_bins_of_the_sorted_values(
    chunks: list[list[float]], share: float
) -> None:
    seen = RangeHistogram()
    for chunk in chunks:
        seen.add(torch.tensor(chunk))
    flat = np.sort(np.concatenate(chunks))
    place = min(len(flat) - 1, int(np.ceil(share * len(flat))) - 1)
    assert abs(seen.quantile(share) - flat[place]) <= 2 * seen.width + 1e-3 * abs(flat[place])


def test_the_largest_range_is_all_and_a_percentile_leaves_outliers_away() -> None:
    seen = RangeHistogram()
    seen.add(torch.cat([torch.linspace(-1, 3, 10_000), torch.tensor([50.0])]))
    assert chosen_range(seen, "largest", 99.9, 8) == (-1.0, 50.0)
    low, high = chosen_range(seen, "percentile", 99.9, 8)
    assert -1.01 < low < -0.9
    assert 2.9 < high < 3.1


def test_the_range_of_least_error_beats_every_other_of_its_grid() -> None:
    torch.manual_seed(0)
    values = torch.randn(20_000) ** 3
    seen = RangeHistogram()
    for chunk in values.split(1000):
        seen.add(chunk)
    low, high = chosen_range(seen, "error", 99.99, 4)

    def error(bottom: float, top: float) -> float:
        return float((rounded(values, bottom, top, 4) - values).square().mean())

    found = error(low, high)
    others = [
        error(a * seen.least, b * seen.greatest) for a in (0.2, 0.5, 1) for b in (0.2, 0.5, 1)
    ]
    assert found <= 1.02 * min(others)
    assert found < 0.5 * error(seen.least, seen.greatest)
