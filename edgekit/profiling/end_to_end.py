"""Where the time goes from a picture's file to its boxes, alone and with others: often not into the network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekit.errors import UsageError, first_line
from edgekit.parity.compare import psnr_db
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.opened import Opened
from edgekit.profiling.pipeline import Step, input_pixels, steps_of
from edgekit.profiling.timing import at_once
from edgekit.report import aligned, json_number

CALLERS = 4
"""At once, as a server meets them; each path is also measured alone."""
SECONDS_SHARE = 0.3
"""Of the seconds to measure latency for, for each path and number of callers."""
LEAST_PASSES = 5
NETWORK, DRAW = "network", "draw"


@dataclass(frozen=True)
class Passage:
    """Pictures through all steps, one after the other in each caller."""

    path: str
    """How the picture is decoded."""
    callers: int
    steps: dict[str, Distribution]
    """Milliseconds, by step in order."""
    pictures_per_s: float

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
            {"step": name, "p50_ms": taken.median, "p90_ms": taken.percentile(90), "share": self.share(name)}
            for name, taken in self.steps.items()
        ]  # fmt: skip
        return {"path": self.path, "callers": self.callers, "total_ms": self.total_ms,
                "pictures_per_s": self.pictures_per_s, "steps": rows}  # fmt: skip


@dataclass(frozen=True)
class EndToEnd:
    width: int
    height: int
    picture_bytes: int
    passages: tuple[Passage, ...]
    input_psnr_db: float | None
    """Between the network's inputs of the two ways to decode; None where there is one way only."""

    def to_json(self) -> dict[str, Any]:
        return {
            "width": self.width, "height": self.height, "bytes": self.picture_bytes,
            "passages": [passage.to_json() for passage in self.passages],
            "input_psnr_db": None if self.input_psnr_db is None else json_number(self.input_psnr_db),
        }  # fmt: skip

    def text(self) -> str:
        megapixels = self.width * self.height / 1e6
        rows: list[tuple[str, ...]] = [
            (f"{megapixels:.1f} megapixels", *(f"{p.path}, {_callers(p.callers)}" for p in self.passages))
        ]  # fmt: skip
        rows += [
            (step, *(_cell(passage, step) for passage in self.passages))
            for step in self.passages[0].steps
        ]
        rows.append(("all", *(f"{p.total_ms:.2f} ms" for p in self.passages)))
        rows.append(("pictures/s", *(f"{p.pictures_per_s:.1f}" for p in self.passages)))
        return "\n".join([aligned(rows), *self.remarks()])

    def remarks(self) -> list[str]:
        first, said = self.passages[0], []
        share = first.share(NETWORK)
        if share < 0.5:
            largest = max(first.steps, key=first.share)
            said.append(
                f"the network is not what takes longest: {share:.0%} of the time; most goes into '{largest}' "
                f"({first.share(largest):.0%}), and a smaller network helps little"
            )
        said += [
            f"decoding the JPEG at a reduced size takes {passage.answer_ms / first.answer_ms:.2f} times as long until the "
            f"answer; the network's input differs by {self.input_psnr_db:.1f} dB"
            for passage in self.passages
            if passage.path != first.path and passage.callers == first.callers
        ]
        return [f"note        {sentence}" for sentence in said]


def _callers(count: int) -> str:
    return "alone" if count == 1 else f"{count} callers"


def _cell(passage: Passage, step: str) -> str:
    return f"{passage.steps[step].median:.2f} ms {passage.share(step):.0%}"


def measure_end_to_end(opened: Opened, picture: Path, seconds: float) -> EndToEnd:
    """Of a detector or a classifier. Raises UsageError, also for a picture that cannot be read."""
    width, height, form = _facts(picture)
    paths = {"full decode": False} | ({"reduced decode": True} if form == "JPEG" else {})
    steps = {
        name: steps_of(opened.bundle, opened.runnable, picture, reduced=r)
        for name, r in paths.items()
    }
    inputs = [np.asarray(input_pixels(chain), dtype=np.float64) for chain in steps.values()]
    spent = SECONDS_SHARE * seconds
    passages = [
        *_alone(steps, spent * len(steps)),
        *(_together(name, chain, spent) for name, chain in steps.items()),
    ]
    difference = (
        psnr_db(inputs[0], inputs[1], float(np.ptp(inputs[0]))) if len(inputs) > 1 else None
    )
    return EndToEnd(width, height, picture.stat().st_size, tuple(passages), difference)


def require_end_to_end(opened: Opened, picture: Path) -> None:
    """Raises UsageError, as `measure_end_to_end` does: before anything is measured."""
    _facts(picture)
    steps_of(opened.bundle, opened.runnable, picture, reduced=False)


def _facts(picture: Path) -> tuple[int, int, str | None]:
    try:
        with Image.open(picture) as file:
            return *file.size, file.format
    except OSError as error:
        reason = error.strerror or "it is no picture that Pillow reads"
        raise UsageError(f"The picture {picture} cannot be read: {reason}.") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"The picture {picture} cannot be read: {first_line(error)}.") from error


def _alone(paths: dict[str, tuple[Step, ...]], seconds: float) -> list[Passage]:
    """By turns, so that what the machine does meets all ways to decode."""
    found: dict[str, list[list[float]]] = {name: [] for name in paths}
    for steps in paths.values():
        pass_through(steps)  # what Pillow imports at the first picture
    end = time.perf_counter() + seconds
    while len(next(iter(found.values()))) < LEAST_PASSES or time.perf_counter() < end:
        for name, steps in paths.items():
            found[name].append(pass_through(steps))
    return [
        Passage(name, 1, _by_step(paths[name], passes), len(passes) / sum(map(sum, passes)) * 1e3)
        for name, passes in found.items()
    ]


def _together(path: str, steps: tuple[Step, ...], seconds: float) -> Passage:
    found: list[list[list[float]]] = [[] for _ in range(CALLERS)]
    started = time.perf_counter()

    def call(number: int) -> None:
        while len(found[number]) < LEAST_PASSES or time.perf_counter() < started + seconds:
            found[number].append(pass_through(steps))

    at_once(call, CALLERS)
    taken = time.perf_counter() - started
    passes = [row for rows in found for row in rows]
    return Passage(path, CALLERS, _by_step(steps, passes), len(passes) / taken)


def _by_step(steps: tuple[Step, ...], passes: list[list[float]]) -> dict[str, Distribution]:
    columns = zip(*passes, strict=True)
    return {step.name: Distribution(column) for step, column in zip(steps, columns, strict=True)}


def pass_through(
    steps: tuple[Step, ...], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Milliseconds of each step of one picture."""
    value: Any = None
    taken = []
    for step in steps:
        before = clock()
        value = step.run(value)
        taken.append((clock() - before) * 1e3)
    return taken
