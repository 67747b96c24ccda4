"""Where the time goes from a file to what is shown of it, alone and with others: often not into the network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from edgekit.errors import UsageError, first_line
from edgekit.parity.compare import psnr_db
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.opened import Opened
from edgekit.profiling.pipeline import Step, Way, input_pixels, picture_ways
from edgekit.profiling.timing import at_once
from edgekit.profiling.video_pipeline import Clip, latent_ways, video_ways
from edgekit.report import aligned, json_number

CALLERS = 4
"""At once, as a server meets them; each path is also measured alone."""
SECONDS_SHARE = 0.3
"""Of the seconds to measure latency for, for each path and number of callers."""
LEAST_PASSES = 5
NETWORK, DRAW = "network", "draw"


Kind = Literal["image", "video", "latent"]


@dataclass(frozen=True)
class Source:
    """What a file holds, and where it lies."""

    kind: Kind
    path: Path


FASTER = {
    "image": "decoding the JPEG at a reduced size (`edgekit run --reduced-decode`)",
    "video": "scaling frames while their colours are converted",
}
"""The other way of a source that has two."""


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
class EndToEnd:
    source: Source
    width: int
    height: int
    """Of the picture or the video that is read, or that the network makes of a latent."""
    file_bytes: int
    frames: int
    """That one pass shows: more than one of a latent only."""
    passages: tuple[Passage, ...]
    input_psnr_db: float | None
    """Between the network's inputs of the two ways to decode; None where there is one way only."""
    rate: float | None = None
    """Frames a second, as the video's file has it."""

    @property
    def items(self) -> str:
        return "pictures" if self.source.kind == "image" else "frames"

    def per_s(self, passage: Passage) -> float:
        return self.frames * passage.passes_per_s

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source.kind, "width": self.width, "height": self.height, "bytes": self.file_bytes,
            "items": self.items, "frames": self.frames, "rate": self.rate,
            "passages": [{**p.to_json(), "items_per_s": self.per_s(p)} for p in self.passages],
            "input_psnr_db": None if self.input_psnr_db is None else json_number(self.input_psnr_db),
        }  # fmt: skip

    def headline(self) -> str:
        told = f"{self.width} x {self.height}"
        return f"{self.frames} frames of {told}" if self.source.kind == "latent" else told

    def text(self) -> str:
        rows: list[tuple[str, ...]] = [
            (self.headline(), *(f"{p.path}, {_callers(p.callers)}" for p in self.passages))
        ]
        rows += [
            (step, *(_cell(passage, step) for passage in self.passages))
            for step in self.passages[0].steps
        ]
        rows.append(("all", *(f"{p.total_ms:.2f} ms" for p in self.passages)))
        rows.append((f"{self.items}/s", *(f"{self.per_s(p):.1f}" for p in self.passages)))
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
            f"{FASTER[self.source.kind]} takes {passage.answer_ms / first.answer_ms:.2f} times as long until the "
            f"answer; the network's input differs by {self.input_psnr_db:.1f} dB"
            for passage in self.passages
            if passage.path != first.path and passage.callers == first.callers
        ]
        if self.rate is not None:
            best = max(self.per_s(passage) for passage in self.passages if passage.callers == 1)
            verdict = "keeps up" if best >= self.rate else "does not keep up"
            said.append(
                f"one caller {verdict} with the video's {self.rate:.4g} frames/s: {best:.1f} at best"
            )
        return [f"note        {sentence}" for sentence in said]


def _callers(count: int) -> str:
    return "alone" if count == 1 else f"{count} callers"


def _cell(passage: Passage, step: str) -> str:
    return f"{passage.steps[step].median:.2f} ms {passage.share(step):.0%}"


def measure_end_to_end(opened: Opened, source: Source, seconds: float, threads: int) -> EndToEnd:
    """Raises UsageError, also for a file that cannot be read, or MissingEnvironmentError without PyAV."""
    ways = _ways(opened, source, threads)
    steps = {way.name: way.opened() for way in ways}
    inputs = [np.asarray(input_pixels(chain), dtype=np.float64) for chain in steps.values()]
    spent = SECONDS_SHARE * seconds
    passages = [
        *_alone(steps, spent * len(steps)),
        *(_together(way, spent) for way in ways),
    ]
    difference = (
        psnr_db(inputs[0], inputs[1], float(np.ptp(inputs[0]))) if len(inputs) > 1 else None
    )
    width, height, frames, rate = _facts(opened, source)
    size = source.path.stat().st_size
    return EndToEnd(source, width, height, size, frames, tuple(passages), difference, rate)


def require_end_to_end(opened: Opened, source: Source, threads: int) -> None:
    """Raises UsageError or MissingEnvironmentError, as `measure_end_to_end` does: before anything is measured."""
    _facts(opened, source)
    for way in _ways(opened, source, threads):
        way.opened()


def _ways(opened: Opened, source: Source, threads: int) -> tuple[Way, ...]:
    file, path = opened.runnable, source.path
    if source.kind == "image":
        _size_of(path)
        return picture_ways(opened.bundle, file, path)
    if source.kind == "video":
        return video_ways(opened.bundle, file, path, threads)
    return latent_ways(opened.bundle, file, path, threads)


def _facts(opened: Opened, source: Source) -> tuple[int, int, int, float | None]:
    """Width, height, frames of one pass, and frames a second."""
    if source.kind == "image":
        return *_size_of(source.path), 1, None
    if source.kind == "video":
        clip = Clip(source.path, 1)
        return *clip.size, 1, float(clip.rate)
    frames, height, width = opened.bundle.outputs[0].shape[-3:]
    return width, height, frames, None


def _size_of(picture: Path) -> tuple[int, int]:
    try:
        with Image.open(picture) as file:
            return file.size
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


def _together(way: Way, seconds: float) -> Passage:
    found: list[list[list[float]]] = [[] for _ in range(CALLERS)]
    chains = [way.opened() for _ in range(CALLERS)]
    started = time.perf_counter()

    def call(number: int) -> None:
        while len(found[number]) < LEAST_PASSES or time.perf_counter() < started + seconds:
            found[number].append(pass_through(chains[number]))

    at_once(call, CALLERS)
    taken = time.perf_counter() - started
    passes = [row for rows in found for row in rows]
    return Passage(way.name, CALLERS, _by_step(chains[0], passes), len(passes) / taken)


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
