from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.profiling.distribution import Distribution, Interval, median_interval


def noisy(random: np.random.Generator, count: int, memory: float) -> list[float]:
    """Right-skewed times of a machine whose other work comes and goes."""
    state, found = 0.0, []
    for _ in range(count):
        state = memory * state + random.standard_normal()
        found.append(10 + math.exp(0.4 * state))  # of median 11
    return found


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_interval_holds_the_median_of_all_there_could_be_in_95_of_100(memory: float) -> None:
    random = np.random.default_rng(0)
    true = 11.0
    held = 0
    for _ in range(400):
        found = median_interval(noisy(random, 400, memory))
        held += found.low <= true <= found.high
    assert (0.93 if memory < 0.9 else 0.9) * 400 <= held < 400


def test_two_profiles_of_one_thing_agree_within_their_intervals_in_95_of_100() -> None:
    random = np.random.default_rng(1)
    pairs = [[median_interval(noisy(random, 300, 0.9)) for _ in range(2)] for _ in range(300)]
    assert sum(a.overlaps(b) for a, b in pairs) >= 0.95 * 300


def test_the_interval_is_narrow_enough_to_tell_a_tenth() -> None:
    random = np.random.default_rng(2)
    samples = [10 + 0.5 * value for value in random.standard_normal(400)]
    found = median_interval(samples)
    assert found.high - found.low < 0.5


def test_few_samples_have_the_widest_interval_there_is() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == Interval(1.0, 3.0)
    assert median_interval([7.0]) == Interval(7.0, 7.0)


def test_percentiles_drift_and_samples_stand_in_the_json() -> None:
    samples = tuple(float(n) for n in range(1, 101))
    found = Distribution(samples).to_json()
    assert (found["p50"], found["min"], found["mean"]) == (50.5, 1.0, 50.5)
    assert found["p90"] == pytest.approx(90.1)
    assert found["drift"] == pytest.approx(88 / 13 - 1)
    assert found["samples"] == list(samples)
