"""What one run of the command line did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
        lines = [line for line in self.err.splitlines() if "has no weights here" not in line]
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
