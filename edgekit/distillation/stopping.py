"""Ctrl-C and SIGTERM that let a step finish, so that the run can be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist


class Stop:
    """Several processes stop after the same step, whichever of them were asked.

    They agree after each step, by one number that is summed on the processor: read from
    a GPU, it would wait for the work that is queued there.
    """

    def __init__(self, processes: int) -> None:
        self.was_asked = False
        self._group = dist.new_group(backend="gloo") if processes > 1 else None

    def was_asked_anywhere(self) -> bool:
        """Every process must call it."""
        if self._group is None:
            return self.was_asked
        asked = torch.tensor(int(self.was_asked))
        dist.all_reduce(asked, group=self._group)
        return bool(asked > 0)


@contextmanager
def stopping(processes: int) -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM asks the loop to end after its step; the second one ends at once."""
    stop = Stop(processes)
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, _frame: Any) -> None:
        stop.was_asked = True
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread, which alone has signals
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
