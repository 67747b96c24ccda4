"""Where the time goes from a file to what is shown of it, alone and with others: often not into the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from edgekit.backends.runnable import Array
from edgekit.errors import UsageError, first_line
from edgekit.parity.compare import psnr_db
from edgekit.profiling.opened import Opened
from edgekit.profiling.passages import Passage, alone, pass_through, together
from edgekit.profiling.pipeline import (
    HEAD,
    NETWORK,
    Network,
    Way,
    Whole,
    input_pixels,
    picture_ways,
)
from edgekit.profiling.split_pipeline import HERE, TAIL, HeadAndTail, Sending, Sent
from edgekit.profiling.video_pipeline import Clip, latent_ways, video_ways
from edgekit.report import aligned, json_number
from edgekit.split.bundle import SplitFacts

SECONDS_SHARE = 0.3
"""Of the seconds to measure latency for, for each path and number of callers."""
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
    sent: Sent | None = None
    """Of a split bundle."""
    incomplete: str = ""
    """Why the measurement broke off, as a clause."""

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
            "sent": self.sent.to_json() if self.sent else None,
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
        computed = [step for step in first.steps if step in (NETWORK, HEAD, TAIL)]
        share = sum(map(first.share, computed))
        largest = max(first.steps.keys() - computed, key=first.share)
        if share < min(0.5, first.share(largest)):
            said.append(
                f"{' and '.join(computed) if self.sent else 'the network'} "
                f"{'are' if self.sent else 'is'} not what takes longest: {share:.0%} of the time; most goes into "
                f"'{largest}' ({first.share(largest):.0%}), and a smaller network helps little"
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
        if self.sent is not None:
            said += self.sent.remarks(self.file_bytes)
        return [f"note        {sentence}" for sentence in said]


def _callers(count: int) -> str:
    return "alone" if count == 1 else f"{count} callers"


def _cell(passage: Passage, step: str) -> str:
    return f"{passage.steps[step].median:.2f} ms {passage.share(step):.0%}"


def measure_end_to_end(
    opened: Opened, source: Source, seconds: float, threads: int, sending: Sending = HERE
) -> EndToEnd:
    """One that broke off after the first picture, as when the link to a tail's server was lost, says so.

    Raises UsageError, also for a file that cannot be read; MissingEnvironmentError without PyAV; as `Client.connect`
    and `Client.ask` do where a server gives no answer.
    """
    with _network(opened, source, threads, sending) as network:
        ways = _ways(network, source, threads)
        steps = {way.name: way.opened() for way in ways}
        inputs = [input_pixels(chain) for chain in steps.values()]
        sent = network.sent(inputs[0]) if isinstance(network, HeadAndTail) else None
        spent = SECONDS_SHARE * seconds
        found = alone(steps, spent * len(steps))
        passages, broken = list(found.passages), found.broken
        for way in ways:
            if broken is None:
                found = together(way, spent)
                passages += found.passages
                broken = found.broken
    if broken is not None and not passages:
        raise broken
    incomplete = first_line(broken) if broken is not None else ""
    width, height, frames, rate = _facts(opened, source)
    size = source.path.stat().st_size
    return EndToEnd(
        source, width, height, size, frames, tuple(passages), _difference_db(inputs), rate, sent, incomplete
    )  # fmt: skip


def _difference_db(inputs: list[Array]) -> float | None:
    if len(inputs) < 2:
        return None
    first, second = (np.asarray(value, dtype=np.float64) for value in inputs)
    return psnr_db(first, second, float(np.ptp(first)))


def require_end_to_end(
    opened: Opened, source: Source, threads: int, sending: Sending = HERE
) -> None:
    """Raises as `measure_end_to_end` does, before anything is measured."""
    _facts(opened, source)
    with _network(opened, source, threads, sending) as network:
        steps = [way.opened() for way in _ways(network, source, threads)]
        if isinstance(network, HeadAndTail):
            pass_through(steps[0])  # a server says only then that it knows another token
        else:
            input_pixels(steps[0])


@contextmanager
def _network(
    opened: Opened, source: Source, threads: int, sending: Sending
) -> Iterator[Whole | HeadAndTail]:
    """Connections to a tail's server are closed at the end."""
    if SplitFacts.of(opened.bundle) is None:
        yield Whole(opened.bundle, opened.runnable)
        return
    picture = source.path if source.kind == "image" else None
    network = HeadAndTail(opened, sending, threads, picture)
    try:
        yield network
    finally:
        network.close()


def _ways(network: Network, source: Source, threads: int) -> tuple[Way, ...]:
    if source.kind == "image":
        _size_of(source.path)
        return picture_ways(network, source.path)
    if source.kind == "video":
        return video_ways(network, source.path, threads)
    return latent_ways(network, source.path, threads)


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
