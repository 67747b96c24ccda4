"""Ctrl-C and SIGTERM that let a step finish, so that the run can be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Stop:
    def __init__(self) -> None:
        self.was_asked = False

    def was_asked_everywhere(self, fabric: Fabric, is_due: bool) -> bool:
        """Processes stop at the same step: several of them agree only at steps that are `is_due`."""
        if fabric.world_size == 1:
            return self.was_asked
        if not is_due:
            return False
        asked = torch.tensor(float(self.was_asked), device=fabric.device)
        return bool(torch.as_tensor(fabric.all_reduce(asked, reduce_op="sum")) > 0)


@contextmanager
def stopping() -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM asks the loop to end after its step; the second one ends at once."""
    stop = Stop()
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
