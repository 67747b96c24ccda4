"""A recipe as the text of a TOML file: of a network that was made from another one's."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from edgekit.box_contract import Boxes
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.recipe import Recipe

TomlTable = Mapping[str, Any]


def recipe_text(recipe: Recipe, weights: str) -> str:
    """What `read_recipe` reads as this recipe with the file `weights` beside it.

    Tables that say what goes in and comes out are those of the file that the recipe was read from. Raises UsageError
    if that is gone.
    """
    try:
        table = tomllib.loads(recipe.path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The recipe {recipe.path} of {recipe.name} cannot be read again: {error.strerror}."
        ) from error
    table |= {
        "name": recipe.name,
        "aliases": [],
        "summary": recipe.summary,
        "parameters": recipe.parameters,
        "weights": {"bundled": weights, "licence": recipe.weights.licence},
        "channels": recipe.channels,
    }
    contract = recipe.contract
    if isinstance(contract, ImageContract) and isinstance(contract.output, Boxes):
        table["image"]["boxes"]["names"] = (
            contract.output.names
        )  # they may stand in a file of its own
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: TomlTable, path: tuple[str, ...]) -> list[str]:
    """Values first, then tables, each under its heading."""
    lines = [
        f"{_key(key)} = {_value(value)}" for key, value in table.items() if not _is_table(value)
    ]
    for key, value in table.items():
        if _is_table(value):
            inner = (*path, key)
            has_values = not value or not all(map(_is_table, value.values()))
            heading = ["", f"[{'.'.join(map(_key, inner))}]"] if has_values else []
            lines += [*heading, *_lines(value, inner)]
    return lines


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return (
        key
        if key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        else json.dumps(key)
    )


def _value(value: Any) -> str:
    """Strings, numbers and lists of such are written alike in TOML and JSON."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
