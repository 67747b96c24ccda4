"""JSON files of numbers that head and tail must share exactly: they carry the hash of the numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from edgekit.errors import UsageError, first_line


@dataclass(frozen=True)
class Kind:
    format: str
    version: int
    what: str
    """For sentences: "coding tables"."""


@dataclass(frozen=True)
class Sealed:
    """The fields of a file; each accessor raises UsageError for a field that is something else."""

    path: Path
    kind: Kind
    fields: Mapping[str, Any]

    def numbers(self, name: str) -> list[float]:
        value = self.fields.get(name)
        if _are(value, float, int):
            try:
                found = [float(item) for item in value]
            except OverflowError:
                found = [math.inf]
            if all(map(math.isfinite, found)):
                return found
        raise self._damaged(name, "a list of numbers")

    def whole_numbers(self, name: str) -> list[int]:
        return self._row(self.fields.get(name), name)

    def rows_of_whole_numbers(self, name: str) -> list[list[int]]:
        value = self.fields.get(name)
        if not _are(value, list):
            raise self._damaged(name, "a list of lists of whole numbers")
        return [self._row(row, name) for row in value]

    def check(self, digest: bytes) -> None:
        if self.fields.get("sha256") != digest.hex():
            raise UsageError(
                f"{self.path} was changed after it was written: its numbers have another hash; "
                "export the head again."
            )

    def _row(self, value: object, name: str) -> list[int]:
        if _are(value, int) and all(abs(item) < 1 << 32 for item in value):
            return value
        raise self._damaged(name, "whole numbers of at most 32 bits")

    def _damaged(self, name: str, wanted: str) -> UsageError:
        return UsageError(f"{self.path} holds damaged {self.kind.what}: {name} must be {wanted}.")


def write_sealed(path: Path, kind: Kind, digest: bytes, fields: Mapping[str, Any]) -> None:
    data = {"format": kind.format, "version": kind.version, "sha256": digest.hex(), **fields}
    path.write_text(json.dumps(data, separators=(",", ":")) + "\n", "ascii")


def read_sealed(path: Path, kind: Kind) -> Sealed:
    """Raises UsageError for a file that is missing or of another kind or version."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "strerror", None) or first_line(error)).rstrip(".")
        raise UsageError(f"{path} holds no {kind.what} that can be read: {reason}.") from error
    if not isinstance(data, dict) or data.get("format") != kind.format:
        raise UsageError(f"{path} holds no {kind.what} (their format is {kind.format!r}).")
    if data.get("version") != kind.version:
        raise UsageError(
            f"{path} holds {kind.what} of version {data.get('version')!r}; this edgekit reads "
            f"version {kind.version}: export the head again or install the edgekit that wrote it."
        )
    return Sealed(path, kind, data)


def _are(value: object, *kinds: type) -> TypeGuard[list[Any]]:
    """A list of these, and of no booleans, which Python counts among whole numbers."""
    return isinstance(value, list) and all(type(item) in kinds for item in value)
