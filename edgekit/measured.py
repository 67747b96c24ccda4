"""What benchmarks measured of a model: `NAME.measured.json` beside its recipe, which its card is written from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit.errors import UsageError

Cell = float | str | None
PROGRAMS = ("edgekit-vision", "torch", "onnxruntime")
FORMAT, VERSION = "edgekit-measured", 1


@dataclass(frozen=True)
class Column:
    name: str
    unit: str = ""
    decimals: int = 0

    @property
    def heading(self) -> str:
        """A percentage has its sign in every cell."""
        return self.name if self.unit in ("", "%") else f"{self.name} {self.unit}"

    def cell(self, value: Cell) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        return f"{value:,.{self.decimals}f}" + (" %" if self.unit == "%" else "")

    def figure(self, value: Cell) -> str:
        """As a sentence quotes it, with its unit."""
        return " ".join(filter(None, [self.cell(value), "" if self.unit == "%" else self.unit]))


@dataclass(frozen=True)
class Measurement:
    """A table that one command prints."""

    command: str
    of: str
    """What its rows are, such as "clip"."""
    columns: tuple[Column, ...]
    rows: Mapping[str, Sequence[Cell]]
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the programs that measured; empty of figures put together from several runs."""

    def figure(self, row: str, column: str) -> str:
        """Raises KeyError."""
        names = [one.name for one in self.columns]
        if column not in names:
            raise KeyError(column)
        place = names.index(column)
        return self.columns[place].figure(self.rows[row][place])

    def value(self, row: str, column: str) -> float:
        """Raises KeyError."""
        names = [one.name for one in self.columns]
        if column not in names:
            raise KeyError(column)
        value = self.rows[row][names.index(column)]
        if not isinstance(value, int | float):
            raise KeyError(column)
        return float(value)

    def table(self) -> str:
        """In Markdown."""
        heading = [self.of, *(column.heading for column in self.columns)]
        lines = [heading, ["---"] * len(heading)]
        for name, values in self.rows.items():
            cells = (column.cell(one) for column, one in zip(self.columns, values, strict=True))
            lines.append([name, *cells])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions_here() -> dict[str, str]:
    found = {}
    for program in PROGRAMS:
        try:
            found[program] = version(program)
        except PackageNotFoundError:
            continue
    return found


def measured_file(recipe: Path) -> Path:
    return recipe.with_suffix(".measured.json")


def read_measured(recipe: Path) -> dict[str, Measurement]:
    """By key, of the recipe in this file; none where nothing was measured. Raises UsageError."""
    path = measured_file(recipe)
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8"))
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is no {FORMAT} of version {VERSION}")
        return {
            key: Measurement(**{**one, "columns": tuple(Column(**each) for each in one["columns"])})
            for key, one in data["measurements"].items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} does not hold measurements: {error}.") from error


def record(recipe: Path, key: str, measurement: Measurement) -> Path:
    """Keep it beside the recipe, in place of an earlier one of this key."""
    kept = read_measured(recipe) | {key: measurement}
    path = measured_file(recipe)
    head = f'{{"format": "{FORMAT}", "version": {VERSION}, "measurements": {{'
    entries = [f"{json.dumps(name)}: {_text(one)}" for name, one in kept.items()]
    path.write_text(head + "\n" + ",\n".join(entries) + "\n}}\n", encoding="utf-8")
    return path


def _text(measurement: Measurement) -> str:
    """A line for each column and row."""
    data = asdict(measurement)
    columns = ",\n".join(f"  {_json(one)}" for one in data.pop("columns"))
    rows = ",\n".join(f"  {_json(name)}: {_json(one)}" for name, one in data.pop("rows").items())
    head = ",\n".join(f" {_json(name)}: {_json(value)}" for name, value in data.items())
    return f'{{\n{head},\n "columns": [\n{columns}],\n "rows": {{\n{rows}}}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
