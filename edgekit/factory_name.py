"""How a user's own module is named: package.module:factory, as Python imports it."""

from __future__ import annotations

from pathlib import PurePath


def is_factory(name: str) -> bool:
    """package.module:factory, not the name or the file of a recipe."""
    return ":" in name and not name.endswith(".toml")


def is_file(module: str) -> bool:
    """A path where a module's name belongs."""
    return module.endswith(".py") or "/" in module or "\\" in module


def as_imported(file: str) -> str:
    """ "mypackage/nets.py" as "mypackage.nets"; a file elsewhere as it is called in its own folder."""
    parts = PurePath(file.replace("\\", "/").removesuffix(".py")).parts
    is_below = not {"/", ".."} & set(parts)
    return ".".join(parts if is_below else parts[-1:])
