"""What one run of the command line did."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BESIDE = re.compile(r"^edgekit [a-z ]+: |has no weights here")
"""What is told of long work on the way."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Strict: no NaN, and nothing beside the one value."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not strict JSON")

        return json.loads(self.out, parse_constant=refuse)

    def is_one_sentence(self) -> bool:
        """An error on stderr, and nothing on stdout."""
        lines = [line for line in self.err.splitlines() if not BESIDE.search(line)]
        return (
            self.out == ""
            and len(lines) == 1
            and lines[0].startswith("edgekit: ")
            and lines[0].endswith((".", "?"))
            and "Unexpected" not in lines[0]
        )


Command = Callable[..., Result]


def leftovers(folder: Path) -> list[str]:
    """Hidden partial folders, at any depth."""
    return [path.name for path in folder.rglob(".*") if "partial" in path.name or "replaced" in path.name]  # fmt: skip
