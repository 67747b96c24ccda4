"""The two data folders, `models/` and `export/`: in the checkout, or inside an installed wheel."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

Folder = Literal["models", "export"]


def data_folder(name: Folder) -> Path:
    """A wheel carries the folders beside this module; an editable install reads the checkout's."""
    package = Path(str(files("edgekit")))
    inside = package / "data" / name
    return inside if inside.is_dir() else package.parent / name


def data_files(name: Folder) -> list[Path]:
    return sorted(data_folder(name).glob("*.toml"))


def suggestion(word: str, known: Sequence[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of `known`, or a list of all where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}."
