"""This machine behind the interface of a device: for providers that its onnxruntime has beside the CPU's."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import MissingEnvironmentError


@dataclass(frozen=True)
class HereLink:
    python: str = sys.executable
    temporary: str = field(default_factory=tempfile.gettempdir)
    name: str = "this machine"

    def command(self, script: str) -> list[str]:
        return ["sh", "-c", script]

    def connect(self) -> None:
        """Raises MissingEnvironmentError."""
        if shutil.which("sh") is None:
            raise MissingEnvironmentError(
                "Other providers than the CPU's are measured by a script of the POSIX shell, and there is no sh here."
            )

    def push(self, files: dict[str, Path], folder: str) -> None:
        """Raises MissingEnvironmentError."""
        try:
            for name, path in files.items():
                place = Path(folder) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        except OSError as error:
            raise MissingEnvironmentError(
                f"The bundle could not be copied to {folder}: {error.strerror or error}."
            ) from error

    def failure(self, code: int, said: str) -> str:  # noqa: ARG002
        """No line can break."""
        return ""
