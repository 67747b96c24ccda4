"""Pictures, frames or clips through their steps, one after the other in each caller: alone, and several at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.pipeline import Steps, Told, Way
from edgekit.profiling.timing import at_once

CALLERS = 4
"""At once, as a server meets them; each path is also measured alone."""
LEAST_PASSES = 5
DRAW = "draw"


@dataclass(frozen=True)
class Passage:
    """Pictures, frames or clips through all steps, one after the other in each caller."""

    path: str
    """How the picture is decoded."""
    callers: int
    steps: dict[str, Distribution]
    """Milliseconds, by step in order."""
    passes_per_s: float

    @property
    def total_ms(self) -> float:
        return sum(step.median for step in self.steps.values())

    @property
    def answer_ms(self) -> float:
        """Until boxes or classes are known: a reduced picture is quicker to draw on too, but is another one."""
        return sum(taken.median for step, taken in self.steps.items() if step != DRAW)

    def share(self, step: str) -> float:
        return self.steps[step].median / self.total_ms

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"step": name, "p50_ms": taken.median, "p90_ms": taken.percentile(90), "p95_ms": taken.percentile(95),
             "p99_ms": taken.percentile(99), "share": self.share(name)}
            for name, taken in self.steps.items()
        ]  # fmt: skip
        return {"path": self.path, "callers": self.callers, "total_ms": self.total_ms,
                "passes_per_s": self.passes_per_s, "steps": rows}  # fmt: skip


@dataclass(frozen=True)
class Passed:
    passages: tuple[Passage, ...]
    """None of a way that was never passed."""
    broken: EdgekitError | None = None
    """What ended the measurement: a lost link, or a server that came back as another."""


def alone(paths: dict[str, Steps], seconds: float) -> Passed:
    """By turns, so that what the machine does meets all ways to decode."""
    found: dict[str, list[list[float]]] = {name: [] for name in paths}
    broken = None
    try:
        for steps in paths.values():
            pass_through(steps)  # what Pillow imports at the first picture
        end = time.perf_counter() + seconds
        while len(next(iter(found.values()))) < LEAST_PASSES or time.perf_counter() < end:
            for name, steps in paths.items():
                found[name].append(pass_through(steps))
    except EdgekitError as error:
        broken = error
    passages = (
        Passage(name, 1, _by_step(paths[name], passes), len(passes) / sum(map(sum, passes)) * 1e3)
        for name, passes in found.items()
        if passes
    )
    return Passed(tuple(passages), broken)


def together(way: Way, seconds: float) -> Passed:
    """`CALLERS` at once. Those that fail stop, and the others go on until the time is over."""
    found: list[list[list[float]]] = [[] for _ in range(CALLERS)]
    chains: list[Steps] = []
    started, broken = time.perf_counter(), None

    def call(number: int) -> None:
        while len(found[number]) < LEAST_PASSES or time.perf_counter() < started + seconds:
            found[number].append(pass_through(chains[number]))

    try:
        chains = [way.opened() for _ in range(CALLERS)]
        started = time.perf_counter()
        at_once(call, CALLERS)
    except EdgekitError as error:
        broken = error
    taken = time.perf_counter() - started
    passes = [row for rows in found for row in rows]
    if not passes:
        return Passed((), broken)
    steps = _by_step(chains[0], passes)
    return Passed((Passage(way.name, CALLERS, steps, len(passes) / taken),), broken)


def _by_step(steps: Steps, passes: list[list[float]]) -> dict[str, Distribution]:
    names = [name for step in steps for name in (step.name, *step.told)]
    columns = zip(*passes, strict=True)
    return {name: Distribution(column) for name, column in zip(names, columns, strict=True)}


def pass_through(steps: Steps, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Milliseconds of each step of one picture, and behind it of what another machine told of it."""
    value: Any = None
    taken = []
    for step in steps:
        before = clock()
        value = step.run(value)
        spent = (clock() - before) * 1e3
        told: tuple[float, ...] = ()
        if isinstance(value, Told):
            value, told = value.value, value.spent_ms
        taken += [max(0.0, spent - sum(told)), *told]
    return taken
