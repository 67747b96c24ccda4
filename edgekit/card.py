"""A model's card: facts of its recipe, what was measured of it, and notes that quote that.

`NAME.notes.md` beside a recipe is Markdown with places for what `NAME.measured.json` holds: `{{key}}` is a table,
`{{key | row | column}}` one figure of it with its unit. Tables that the notes leave out follow them.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.measured import Measurement, read_measured
from edgekit.recipe import Recipe
from edgekit.zoo.cost import network_cost

PLACE = re.compile(r"\{\{([^}]+)\}\}")
NOT_MEASURED = (
    "Nothing of its quality or speed was measured by this project. `edgekit profile` measures a bundle's latency "
    "and memory where it runs."
)


def card_of(recipe: Recipe) -> str:
    """Markdown. Raises UsageError for notes that quote what was not measured."""
    measured = read_measured(recipe.path)
    notes = recipe.path.with_suffix(".notes.md")
    sections = [f"# {recipe.name}", f"{recipe.summary}.", _facts(recipe)]
    quoted: set[str] = set()
    if notes.is_file():
        text = notes.read_text("utf-8")
        quoted = {match.split("|")[0].strip() for match in PLACE.findall(text) if "|" not in match}
        sections.append(_filled(text, measured, notes).strip())
    rest = {key: one for key, one in measured.items() if key not in quoted}
    if rest:
        sections += ["## Also measured", *(_table(one) for one in rest.values())]
    if not measured:
        sections += ["## Measured", NOT_MEASURED]
    return "\n\n".join(sections) + "\n"


def _facts(recipe: Recipe) -> str:
    given, made = recipe.specs(None, None, None)
    cost = network_cost(recipe, given.shape)
    size = recipe.contract.size_of(given.shape)
    unit = "image" if size.frames is None else "frame"
    weights = recipe.weights
    rows = [
        ("family", recipe.family),
        ("source", recipe.source),
        ("weights", _weights(recipe)),
        ("licence of the weights", weights.licence or "that of what you give with `--weights`"),
        ("parameters", f"{cost.parameters:,}"),
        (f"GMAC per {unit}", f"{cost.macs / (size.frames or 1) / 1e9:.2f} at {size.height}x{size.width}"),
        ("input", given.sentence()),
        *(("output", spec.sentence()) for spec in made),
    ]  # fmt: skip
    return "\n".join(
        ["| fact | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    )


def _weights(recipe: Recipe) -> str:
    source, bundled = recipe.weights, recipe.bundled_weights
    if bundled is not None and bundled.is_file():
        return f"{source.bundled}, {bundled.stat().st_size:,} bytes"
    if source.repository:
        return f"{source.repository}/{source.file} (`--weights hub`)"
    return "none: random ones, for measuring"


def _filled(text: str, measured: dict[str, Measurement], notes: Path) -> str:
    def figure(place: re.Match[str]) -> str:
        key, *rest = (part.strip() for part in place[1].split("|"))
        try:
            if rest:
                row, column = rest
                return measured[key].figure(row, column)
            return _table(measured[key])
        except (KeyError, ValueError) as error:
            raise UsageError(f"{notes} quotes {place[0]}, which was not measured.") from error

    return PLACE.sub(figure, text)


def _table(measurement: Measurement) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in measurement.versions.items())
    said = f"{measurement.table()}\n\nMeasured by `{measurement.command}`"
    return (
        f"{said}, with {versions}."
        if versions
        else f"{said}; put together from several runs, whose versions were not kept."
    )
