"""Timing a run: warm-up until it is steady, then enough samples; several callers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.errors import UsageError
from edgekit.profiling.distribution import Distribution

Run = Callable[[], object]
STEADY_RUNS = 5
STEADY_SHARE = 0.03
"""Two neighbouring medians of `STEADY_RUNS` runs that differ by less are steady."""
WARM_UP_SHARE = 0.5
"""Of the seconds that are to be measured: a machine that does other work is never steady."""


@dataclass(frozen=True)
class TimingOptions:
    seconds: float = 10.0
    """To measure for, without the warm-up. At least `least_runs` are made however long they take."""
    least_runs: int = 10

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.least_runs < 1:
            raise UsageError(
                f"A model cannot be timed for {self.seconds:g} seconds and {self.least_runs} runs; give more "
                "than 0 seconds and at least 1 run."
            )


@dataclass(frozen=True)
class WarmUp:
    runs: int
    is_steady: bool
    first_ms: float


@dataclass(frozen=True)
class Timing:
    warm_up: WarmUp
    latency: Distribution


def timed_ms(run: Run) -> float:
    started = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - started) / 1e6


def warm_up(run: Run, seconds: float) -> WarmUp:
    """Runs until two medians agree, or the seconds are over."""
    taken = [timed_ms(run)]
    end = time.perf_counter() + seconds
    is_steady = False
    while not is_steady and time.perf_counter() < end:
        taken.append(timed_ms(run))
        if len(taken) > 2 * STEADY_RUNS:
            before = np.median(taken[-2 * STEADY_RUNS : -STEADY_RUNS])
            is_steady = bool(abs(np.median(taken[-STEADY_RUNS:]) / before - 1) < STEADY_SHARE)
    return WarmUp(len(taken), is_steady, taken[0])


def time_runs(run: Run, options: TimingOptions = TimingOptions()) -> Timing:
    warm = warm_up(run, WARM_UP_SHARE * options.seconds)
    samples: list[float] = []
    end = time.perf_counter() + options.seconds
    while len(samples) < options.least_runs or time.perf_counter() < end:
        samples.append(timed_ms(run))
    return Timing(warm, Distribution(tuple(samples)))


def runs_per_second(run: Run, callers: int, seconds: float) -> float:
    """Of `callers` threads that each begin runs for `seconds`, one after the other, and finish them."""
    rates = [0.0] * callers
    ready = threading.Barrier(callers)

    def call(number: int) -> None:
        ready.wait()
        started = now = time.perf_counter()
        count = 0
        while now < started + seconds:
            run()
            count += 1
            now = time.perf_counter()
        rates[number] = count / (now - started)

    at_once(call, callers)
    return sum(rates)


def at_once(call: Callable[[int], None], callers: int) -> None:
    """`call` with each caller's number, in threads. Raises what the first of them that failed raised."""
    failures: list[BaseException] = []

    def kept(number: int) -> None:
        try:
            call(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=kept, args=(n,), daemon=True) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
