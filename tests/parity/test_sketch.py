from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.parity.sketch import SAMPLES, deviation, sketch

RNG = np.random.default_rng(1)
LARGE = RNG.normal(size=(100, 1000))


def test_a_small_value_is_compared_whole() -> None:
    expected = RNG.normal(size=(5, 7))
    actual = expected + RNG.normal(size=(5, 7)) * 0.01
    found = deviation(sketch(expected), sketch(actual))
    difference = np.abs(actual - expected)
    in_l2 = np.linalg.norm(difference) / np.linalg.norm(expected)
    assert found.max_abs == pytest.approx(difference.max())
    assert found.relative == pytest.approx(max(in_l2, difference.max() / np.abs(expected).max()))


def test_a_large_value_keeps_a_bounded_sample() -> None:
    assert sketch(LARGE).sample.size == SAMPLES
    assert deviation(sketch(LARGE), sketch(LARGE.copy())).relative == 0.0


def test_a_wrong_border_of_a_large_value_is_seen() -> None:
    actual = LARGE.copy()
    actual[:, 0] = 0.0
    assert deviation(sketch(LARGE), sketch(actual)).relative > 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_one_wild_element_of_a_large_value_is_seen_even_between_the_samples(bad: float) -> None:
    for position in range(50):
        actual = LARGE.copy()
        actual[position, 3] = bad
        assert deviation(sketch(LARGE), sketch(actual)).relative > 1.0


def test_the_same_infinity_on_both_sides_is_no_deviation() -> None:
    value = np.array([1.0, -math.inf, math.nan])
    assert deviation(sketch(value), sketch(value)).relative == 0.0


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16])
def test_values_of_any_type_can_be_compared(dtype: type[np.generic]) -> None:
    value = np.array([0, 1, 1, 0]).astype(dtype)
    assert deviation(sketch(value), sketch(value.copy())).relative == 0.0
    assert deviation(sketch(value), sketch(np.ones_like(value))).relative > 0.1


def test_empty_values_agree() -> None:
    nothing = sketch(np.zeros((0, 3)))
    assert deviation(nothing, nothing).relative == 0.0


def test_constants_and_handfuls_of_numbers_identify_nothing() -> None:
    assert not sketch(np.ones((10, 10))).is_distinctive
    assert not sketch(np.arange(4.0)).is_distinctive
    assert sketch(np.arange(100.0)).is_distinctive
