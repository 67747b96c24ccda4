from __future__ import annotations

import time

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.profiling import timing
from edgekit.profiling.timing import TimingOptions, runs_per_second, time_runs, warm_up


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: round(now[0] * 1e9))
    return now


def test_the_warm_up_ends_when_runs_take_the_same_time(clock: list[float]) -> None:
    taken = iter([0.5, 0.3, 0.2, 0.15, 0.12, 0.11, *[0.1] * 100])

    def run() -> None:
        clock[0] += next(taken)

    found = warm_up(run, seconds=60)
    assert found.is_steady
    assert found.first_ms == pytest.approx(500)
    assert 11 <= found.runs <= 16


def test_a_warm_up_that_is_never_steady_ends_with_its_time_and_says_so(clock: list[float]) -> None:
    taken = iter(0.01 * 1.1**n for n in range(200))

    def run() -> None:
        clock[0] += next(taken)

    found = warm_up(run, seconds=5)
    assert not found.is_steady
    assert clock[0] < 7


def test_a_fast_run_is_timed_for_all_the_seconds_and_a_slow_one_at_least_so_often(
    clock: list[float],
) -> None:
    def run_for(seconds: float) -> None:
        clock[0] += seconds

    fast = time_runs(lambda: run_for(0.01), TimingOptions(seconds=5, least_runs=10))
    assert 499 <= len(fast.latency.samples) <= 501
    slow = time_runs(lambda: run_for(9.0), TimingOptions(seconds=5, least_runs=10))
    assert len(slow.latency.samples) == 10
    np.testing.assert_allclose(slow.latency.samples, 9000)


def test_callers_at_once_are_counted_together() -> None:
    one = runs_per_second(lambda: time.sleep(0.02), 1, 0.4)
    four = runs_per_second(lambda: time.sleep(0.02), 4, 0.4)
    assert 2.5 * one < four < 5.5 * one


def test_a_run_that_is_longer_than_the_window_counts_for_as_long_as_it_takes() -> None:
    assert runs_per_second(lambda: time.sleep(0.3), 1, 0.05) == pytest.approx(1 / 0.3, rel=0.2)


def test_what_a_caller_fails_with_is_raised() -> None:
    def fail() -> None:
        raise UsageError("It broke.")

    with pytest.raises(UsageError, match="It broke"):
        runs_per_second(fail, 2, 0.1)


@pytest.mark.parametrize(("seconds", "runs"), [(0.0, 10), (float("nan"), 10), (1.0, 0)])
def test_no_time_and_no_runs_are_refused(seconds: float, runs: int) -> None:
    with pytest.raises(UsageError, match="cannot be timed"):
        TimingOptions(seconds, runs)
