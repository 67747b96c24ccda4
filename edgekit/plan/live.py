"""A stream that is fed piece by piece, and needs no more memory for a longer clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from edgekit.backends.runnable import Array
from edgekit.errors import UsageError
from edgekit.plan.plan import Repeat, Stage, Window
from edgekit.plan.repeats import further
from edgekit.plan.runner import PlanRunnable, StageRun, at


class LiveStream:
    """Runs a streamed plan's windows as soon as the frames that they read have arrived.

    Last frames may need other models than those in between, so a step is run when it is known not to
    be a last one: `push` gives what is certain, `finish` the rest.

    Raises:
        UsageError: the plan is no stream, or frames have another shape than it takes.
    """

    def __init__(self, runnable: PlanRunnable) -> None:
        plan = runnable.plan
        repeat = plan.stages[0].repeat
        if len(plan.stages) > 1 or repeat is None:
            raise UsageError(
                f"{runnable.name} is no stream whose steps repeat: export it with --stream, without "
                "--one-file, and with a longer clip or other steps."
            )
        self.stage: Stage = plan.stages[0]
        self.repeat: Repeat = repeat
        self.name = runnable.name
        source = plan.tensors[self.stage.source]
        self._dtype = source.dtype
        self._sizes = list(source.shape)
        self._shortest = source.shape[repeat.dim] - repeat.times * repeat.read_by
        windows, end = self.stage.windows, repeat.first + repeat.times * repeat.windows
        self._head: Sequence[Window] = windows[: repeat.first]
        self._steady = windows[repeat.first : repeat.first + repeat.windows]
        self._tail = windows[end:]
        self._strips = 1 + max(window.strip for window in windows)
        self._ended = False
        starts = [window.read[repeat.dim][0] for window in windows]
        self._backwards = max(max(starts[: i + 1]) - start for i, start in enumerate(starts))
        """How far a window may begin before one that ran earlier: last chunks reach inwards."""
        self._run = StageRun(self.stage, runnable.models)
        self._waiting: Array | None = None
        """Frames that have arrived and that some later window reads."""
        self._start = 0
        """The clip's number of the first of them."""
        self._repetitions = 0

    def push(self, frames: Array) -> Iterator[Array]:
        """Take some more of the input, along its streamed dimension; give the output that is ready.

        What is not asked for now is given by a later call.
        """
        if self._ended:
            raise UsageError(f"This stream of {self.name} has ended; open another one.")
        self._take(frames)
        return self._ready()

    def finish(self) -> Iterator[Array]:
        """The clip has ended: give the rest. Raises UsageError for a length that does not stream."""
        more, rest = divmod(self._arrived - self._shortest, self.repeat.read_by)
        if more < 0 or rest:
            raise UsageError(
                f"{self.name} streams clips of {self._shortest} + n·{self.repeat.read_by} frames, and "
                f"this one has ended after {self._arrived}."
            )
        self._ended = True
        tail = [further(window, self.repeat, more - self.repeat.times) for window in self._tail]
        return chain(self._ready(), self._steps(tail))

    @property
    def _arrived(self) -> int:
        return self._start + (0 if self._waiting is None else self._waiting.shape[self.repeat.dim])

    def _take(self, frames: Array) -> None:
        dim = self.repeat.dim
        sizes = [
            *self._sizes[:dim],
            frames.shape[dim] if frames.ndim > dim else 0,
            *self._sizes[dim + 1 :],
        ]
        if list(frames.shape) != sizes:
            raise UsageError(
                f"{self.name} takes frames of shape {tuple(self._sizes)}, any number of them along "
                f"dimension {dim}, and {tuple(frames.shape)} was given."
            )
        frames = frames.astype(self._dtype, copy=False)
        known = [] if self._waiting is None else [self._waiting]
        self._waiting = np.concatenate([*known, frames], axis=dim)

    def _ready(self) -> Iterator[Array]:
        arrived = self._arrived
        while self._head and self._head[0].read[self.repeat.dim][1] <= arrived:
            step, self._head = self._head[: self._strips], self._head[self._strips :]
            yield from self._steps(step)
        while not self._head and (
            self._shortest + (self._repetitions + 1) * self.repeat.read_by <= arrived
        ):
            behind = self._repetitions
            yield from self._steps([further(w, self.repeat, behind) for w in self._steady])
            self._repetitions += 1

    def _steps(self, windows: Sequence[Window]) -> Iterator[Array]:
        """The strips of each step side by side, as one array."""
        dim, count = self.repeat.result_dim, self._strips
        for first in range(0, len(windows), count):
            step = windows[first : first + count]
            parts = [
                (window.write, self._run.window(window, self._part(window))) for window in step
            ]
            if count == 1:
                yield parts[0][1]
                continue
            start, stop = step[0].write[dim]
            sizes = [max(write[d][1] for write, _ in parts) for d in range(len(step[0].write))]
            sizes[dim] = stop - start
            joined: Array = np.empty(sizes, parts[0][1].dtype)
            for write, part in parts:
                joined[at((*write[:dim], (0, stop - start), *write[dim + 1 :]))] = part
            yield joined

    def _part(self, window: Window) -> Array:
        start, stop = window.read[self.repeat.dim]
        if start == stop:
            return np.empty(0, self._dtype)
        assert self._waiting is not None
        self._drop_before(start)
        box = [*window.read]
        box[self.repeat.dim] = (start - self._start, stop - self._start)
        return np.ascontiguousarray(self._waiting[at(tuple(box))])

    def _drop_before(self, start: int) -> None:
        start -= self._backwards
        if start > self._start and self._waiting is not None:
            gone = [slice(None)] * self._waiting.ndim
            gone[self.repeat.dim] = slice(start - self._start, None)
            self._waiting = self._waiting[tuple(gone)].copy()
            self._start = start


def streamed_through(runnable: PlanRunnable, chunks: Iterable[Array]) -> Iterator[Array]:
    """What a stream makes of chunks of any lengths, as it becomes ready."""
    live = LiveStream(runnable)
    for chunk in chunks:
        yield from live.push(chunk)
    yield from live.finish()
