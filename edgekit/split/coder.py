"""The coder to use: C where it can be built, else Python; both give the same bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from edgekit.errors import MissingEnvironmentError
from edgekit.split.native import NativeCoder, build
from edgekit.split.rans import PythonCoder
from edgekit.split.stream import Coder

Choice = Literal["auto", "native", "python"]


def find_coder(choice: Choice = "auto") -> Coder:
    """Raises MissingEnvironmentError if "native" is asked for and cannot be had here."""
    if choice == "python":
        return PythonCoder()
    native = _native()
    if isinstance(native, NativeCoder):
        return native
    if choice == "native":
        raise native
    return PythonCoder()


def why_not_native() -> str:
    """The sentence that says why the coder in C cannot be had, or nothing."""
    native = _native()
    return "" if isinstance(native, NativeCoder) else str(native)


@lru_cache(maxsize=1)
def _native() -> NativeCoder | MissingEnvironmentError:
    """Built or refused once in a process: a compiler that fails takes its time, too."""
    try:
        return NativeCoder(build())
    except MissingEnvironmentError as error:
        return error
