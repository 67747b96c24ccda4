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
    if choice == "python" or (choice == "auto" and why_not_native()):
        return PythonCoder()
    return _native()


def why_not_native() -> str:
    """The sentence that says why the coder in C cannot be had, or nothing."""
    try:
        _native()
    except MissingEnvironmentError as error:
        return str(error)
    return ""


@lru_cache(maxsize=1)
def _native() -> NativeCoder:
    return NativeCoder(build())
