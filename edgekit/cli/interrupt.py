"""Ctrl-C that is not lost.

Python drops a KeyboardInterrupt that is raised inside a destructor or a library's bare `except`,
and torch and coremltools have both: the export then goes on. The signal is therefore remembered, and every
step of long work asks for it. SIGTERM ends the work in the same way, so that it cleans up too.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

_received: list[int] = []


def remember_interrupts() -> None:
    """Call in the main thread, before work begins."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _say_unless_interrupted


def stop_if_interrupted() -> None:
    """Raises KeyboardInterrupt if a signal came, even if it was swallowed."""
    if _received:
        raise KeyboardInterrupt


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def _say_unless_interrupted(what: sys.UnraisableHookArgs) -> None:
    """Python tells on stderr what a destructor raised: the interrupt itself, which is remembered, or what a constructor
    cut short by it left behind."""
    if not _received:
        sys.__unraisablehook__(what)
