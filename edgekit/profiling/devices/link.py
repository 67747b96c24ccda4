"""What a link to a device must do: run a script there, and copy files to it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Link(Protocol):
    @property
    def name(self) -> str:
        """Of the device, in sentences."""

    @property
    def python(self) -> str:
        """The program there that measures: an interpreter that has onnxruntime, or onnxruntime's perf tool."""

    @property
    def temporary(self) -> str:
        """A folder there that may be written."""

    def command(self, script: str) -> list[str]:
        """A command line of this machine that runs a script of the POSIX shell there.

        Its exit code is the script's, and its output that of the script.
        """

    def push(self, files: dict[str, Path], folder: str) -> None:
        """Copy files, by their paths below `folder`, which exists. Raises MissingEnvironmentError."""

    def failure(self, code: int, said: str) -> str:
        """What the link itself has to say where it, not the script, ended a command; else ""."""

    def connect(self) -> None:
        """Once, before all else. Raises MissingEnvironmentError."""


def last_line(said: str) -> str:
    """What a program said at last, to be quoted."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
