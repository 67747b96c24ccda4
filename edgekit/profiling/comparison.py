"""Two bundles in turns, or one against an earlier profile of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import UsageError
from edgekit.profiling.distribution import Distribution, Interval, median_interval
from edgekit.profiling.golden import Golden
from edgekit.profiling.machine import Machine
from edgekit.profiling.timing import WARM_UP_SHARE, TimingOptions, timed_ms, warm_up

Run = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Times of pairs, and how many times longer the second took than the first."""

    names: tuple[str, str]
    latencies: tuple[Distribution, Distribution]
    ratios: tuple[float, ...]
    threads: int
    machine: Machine
    goldens: tuple[Golden, ...] = ()
    """Of a device, which proves first that it computes what the models compute."""
    incomplete: str = ""
    """Why the measurement broke off, as a clause."""

    @property
    def ratio(self) -> float:
        return float(np.median(self.ratios))

    @property
    def interval(self) -> Interval:
        return median_interval(self.ratios)

    def to_json(self) -> dict[str, Any]:
        return {
            "bundles": [
                {"bundle": name, "latency_ms": latency.to_json()}
                for name, latency in zip(self.names, self.latencies, strict=True)
            ],
            "ratio": self.ratio,
            "interval": [self.interval.low, self.interval.high],
            "pairs": len(self.ratios),
            "threads": self.threads,
            "device": {**self.machine.to_json(), "threads": self.threads},
            "golden": [golden.to_json() for golden in self.goldens],
            "complete": not self.incomplete,
        }

    def text(self) -> str:
        first, second = (latency.median for latency in self.latencies)
        low, high = self.interval.low, self.interval.high
        told = f"{self.names[1]} takes {self.ratio:.3f} times as long as {self.names[0]} ({low:.3f} to {high:.3f} at 95 %)"
        if low <= 1 <= high:
            told = f"no difference is shown: {told}"
        lines = [
            told,
            f"{first:.2f} and {second:.2f} ms median of {len(self.ratios)} pairs on {self.threads} thread(s)",
            self.machine.sentence(),
        ]
        lines += [f"note        {sentence}" for sentence in self._remarks()]
        return "\n".join(lines)

    def _remarks(self) -> list[str]:
        said = [f"incomplete: {self.incomplete}"] if self.incomplete else []
        return said + [
            f"{name} computes something else there than its model ({golden.sentence()}): its times are of no use"
            for name, golden in zip(self.names, self.goldens)
            if not golden.passed
        ]


def compare(
    names: tuple[str, str],
    runs: tuple[Run, Run],
    options: TimingOptions,
    threads: int,
    machine: Machine,
) -> Comparison:
    """Pair by pair, with the order changed each time, so that what the machine does meets both."""
    for run in runs:
        warm_up(run, WARM_UP_SHARE * options.seconds / 2)
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + options.seconds
    while len(taken[0]) < options.least_runs or time.perf_counter() < end:
        first = len(taken[0]) % 2
        for which in (first, 1 - first):
            taken[which].append(timed_ms(runs[which]))
    return paired(names, taken, threads, machine)


def paired(
    names: tuple[str, str],
    taken: tuple[Sequence[float], Sequence[float]],
    threads: int,
    machine: Machine,
) -> Comparison:
    """Of as many times of the one as of the other, in the order they were taken."""
    ratios = tuple(b / a for a, b in zip(*taken, strict=True))
    latencies = (Distribution(tuple(taken[0])), Distribution(tuple(taken[1])))
    return Comparison(names, latencies, ratios, threads, machine)


@dataclass(frozen=True)
class Regression:
    """Of a latency against that of an earlier profile."""

    before_ms: float
    after_ms: float
    most: float
    """Share by which it may be longer."""
    is_sure: bool
    """The intervals do not overlap."""

    @property
    def change(self) -> float:
        return self.after_ms / self.before_ms - 1

    @property
    def passed(self) -> bool:
        return self.change <= self.most or not self.is_sure

    def to_json(self) -> dict[str, Any]:
        return {"before_ms": self.before_ms, "after_ms": self.after_ms, "change": self.change, "most": self.most,
                "is_sure": self.is_sure, "passed": self.passed}  # fmt: skip

    def sentence(self) -> str:
        told = f"against the baseline: {self.before_ms:.2f} -> {self.after_ms:.2f} ms ({self.change:+.1%}, at most {self.most:+.1%})"
        if self.change > self.most and not self.is_sure:
            return f"{told}  pass: the intervals overlap, so that nothing is shown; measure longer"
        return f"{told}  {'pass' if self.passed else 'FAIL'}"


@dataclass(frozen=True)
class Baseline:
    """What an earlier profile says of its bundle's latency, and where it was measured."""

    file: Path
    median_ms: float
    interval: Interval
    threads: int
    processor: str
    runtime: str

    def require_same(self, threads: int, machine: Machine) -> None:
        """Raises UsageError for a profile that this one cannot be compared with."""
        if self.threads != threads:
            raise UsageError(
                f"{self.file} was measured with {self.threads} threads and this with {threads}; give --threads "
                f"{self.threads}."
            )
        for was, now in ((self.processor, machine.processor), (self.runtime, machine.runtime)):
            if was != now:
                raise UsageError(
                    f"{self.file} was measured on {was} and this is {now}; measure a baseline here."
                )


def read_baseline(path: Path) -> Baseline:
    """Raises UsageError for a file that is no profile."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        latency, device = data["latency_ms"], data["device"]
        if "interval" not in latency:  # a device's report has its samples
            latency = Distribution(tuple(map(float, latency["samples"]))).to_json()
        low, high = map(float, latency["interval"])
        median = float(latency["p50"])
        if not 0 < low <= median <= high < float("inf"):
            raise ValueError(median)
        return Baseline(
            path, median, Interval(low, high), int(device["threads"]), str(device["processor"]), str(device["runtime"])
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"The baseline {path} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no profile of a bundle; `edgekit profile BUNDLE --json` writes one."
        ) from error


def against_baseline(latency: Distribution, baseline: Baseline, most: float) -> Regression:
    is_sure = not baseline.interval.overlaps(latency.interval)
    return Regression(baseline.median_ms, latency.median, most, is_sure)
