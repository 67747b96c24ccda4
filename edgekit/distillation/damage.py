"""Files that cannot be read: refused, or named and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from edgekit.errors import UsageError

OnDamage = Literal["refuse", "skip"]
Read = TypeVar("Read")
THREADS = 8  # libjpeg, libpng and FFmpeg let go of Python's lock


class DamagedError(Exception):
    """Why a file cannot be used, as the end of a sentence."""


@dataclass(frozen=True)
class Skipped:
    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def readable(
    files: Sequence[Path],
    read: Callable[[Path], Read],
    on_damage: OnDamage,
    remedy: str = "Remove them, or leave them out (on_damage='skip', --skip-damaged).",
) -> tuple[dict[Path, Read], tuple[Skipped, ...]]:
    """What `read` makes of each file, in order; it raises DamagedError for one it cannot use.

    Raises UsageError that names the damaged files, unless they are to be skipped, and if none is left.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(lambda file: _tried(file, read), files))
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    found = {
        file: result
        for file, result in zip(files, results, strict=True)
        if not isinstance(result, Skipped)
    }
    if skipped and (on_damage == "refuse" or not found):
        raise UsageError(
            f"{len(skipped)} of {len(files)} files cannot be used: {listed(skipped)}. {remedy}"
            if found
            else f"Not one of {len(files)} files can be used: {listed(skipped)}."
        )
    return found, skipped


def listed(skipped: Iterable[Skipped], most: int = 5) -> str:
    lines = [str(one) for one in skipped]
    return "; ".join(lines[:most]) + (
        f"; and {len(lines) - most} more" if len(lines) > most else ""
    )


def _tried(file: Path, read: Callable[[Path], Read]) -> Read | Skipped:
    try:
        return read(file)
    except DamagedError as error:
        return Skipped(file, str(error))
