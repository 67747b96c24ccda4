"""The numbers of a recipe: a TOML file, read into the frozen dataclasses that a recipe declares for it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edgekit.data_folder import data_folder, require_types
from edgekit.errors import UsageError

Numbers = TypeVar("Numbers")
Table = dict[str, Any]


def read_numbers(
    kind: type[Numbers],
    name: str,
    file: Path | None = None,
    arrange: Callable[[Table], Table] = lambda table: table,
    check: Callable[[Numbers], None] = lambda _numbers: None,
) -> Numbers:
    """From `file`, or from models/distillation/NAME.toml.

    Args:
        kind: a dataclass; its fields are scalars, tuples, dataclasses, or mappings of names to dataclasses.
        arrange: makes a table with the fields of `kind` of the file's; raises TypeError for what it lacks.
        check: raises TypeError for numbers out of range.

    Raises:
        UsageError: names the file, and what is missing, unknown or of another type.
    """
    path = file or data_folder("models") / "distillation" / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The numbers {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}.") from error
    try:
        numbers = _built(kind, arrange(table), "")
        check(numbers)
    except TypeError as error:
        raise UsageError(f"{path} does not hold the numbers of {name}: {error}.") from error
    return numbers


def _built(kind: type[Numbers], table: object, where: str) -> Numbers:
    """Raises TypeError, whose text is the end of a sentence."""
    if not isinstance(table, dict):
        raise TypeError(f"'{where.rstrip('.')}' is {table!r} and must be a table")
    hints = get_type_hints(kind)
    known: Any = fields(kind)  # type: ignore[arg-type]
    if unknown := set(table) - {field.name for field in known}:
        raise TypeError(f"'{where}{min(unknown)}' is unknown")
    for field in known:
        if field.name not in table and field.default is field.default_factory is MISSING:
            raise TypeError(f"'{where}{field.name}' is missing")
    made = kind(**{key: _value(hints[key], value, where + key) for key, value in table.items()})
    try:
        require_types(made)
    except TypeError as error:
        raise TypeError(str(error).replace("'", f"'{where}", 1)) from error
    return made


def _value(declared: Any, value: Any, where: str) -> Any:
    if is_dataclass(declared) and isinstance(declared, type):
        return _built(declared, value, f"{where}.")
    if get_origin(declared) is Mapping:
        if not isinstance(value, dict):
            raise TypeError(f"'{where}' is {value!r} and must be a table")
        kind = get_args(declared)[1]
        return {key: _built(kind, one, f"{where}.{key}.") for key, one in value.items()}
    return tuple(value) if isinstance(value, list) else value
