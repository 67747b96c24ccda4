"""The highest resident memory of this process since a reset, as Linux keeps it (VmHWM).

`ru_maxrss` is not used: a child inherits the figure of its parent, and it cannot be reset.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
METHOD = "VmHWM of a fresh process, reset before each phase"
_PROBE_BYTES = 64 << 20


def resident_bytes() -> int:
    return _field("VmRSS")


def highest_resident_bytes() -> int:
    """Since the last reset, or since the process started."""
    return _field("VmHWM")


def reset() -> None:
    """Let the high-water mark begin at what is resident now (proc(5), clear_refs)."""
    CLEAR.write_text("5")


def give_back_freed() -> None:
    """Hand the C library's free pages to the system, so that a later phase cannot hide in them.

    Does nothing where the C library has no such call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reason_against() -> str:
    """Why the mark cannot be had or trusted here, as a clause; "" where it works.

    Some kernels and sandboxes lack the field, or accept the reset and do nothing: so memory is taken
    and freed, and the mark must have risen with it and fall at the reset.
    """
    try:
        reset()
        before = highest_resident_bytes()
        block = np.ones(_PROBE_BYTES, np.uint8)
        del block
        risen = highest_resident_bytes() - before
        reset()
        fallen = before + risen - highest_resident_bytes()
    except (OSError, LookupError, ValueError) as error:
        return f"this system does not keep the highest resident memory of a process ({error})"
    if not 0.9 * _PROBE_BYTES < risen < 1.1 * _PROBE_BYTES:
        return f"{_PROBE_BYTES} bytes that were taken raised the system's mark by {risen}"
    if fallen < 0.9 * _PROBE_BYTES:
        return "the system's mark of the highest resident memory cannot be reset"
    return ""


def _field(name: str) -> int:
    """Bytes of a line `name: 1234 kB`. Raises LookupError where the system has no such line."""
    for line in STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"{STATUS} has no {name}")
