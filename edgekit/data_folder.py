"""The two data folders, `models/` and `export/`: in the checkout, or inside an installed wheel."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

Folder = Literal["models", "export"]


def data_folder(name: Folder) -> Path:
    """A wheel carries the folders beside this module; an editable install reads the checkout's."""
    package = Path(str(files("edgekit")))
    inside = package / "data" / name
    return inside if inside.is_dir() else package.parent / name


def data_files(name: Folder) -> list[Path]:
    return sorted(data_folder(name).glob("*.toml"))


def require_types(record: object) -> None:
    """Raise TypeError for a dataclass field that does not hold the scalar or tuple it declares.

    TOML gives any type anywhere, and a dataclass takes what it is given.
    """
    for field, declared in get_type_hints(type(record)).items():
        value = getattr(record, field)
        wanted = get_origin(declared) or declared
        if wanted not in (str, int, float, bool, tuple):
            continue
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise TypeError(f"'{field}' is {value!r} and must be of type {wanted.__name__}")


def suggestion(word: str, known: Sequence[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of `known`, or a list of all where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}."
