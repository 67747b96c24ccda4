"""Model cards are written from what benchmarks recorded, and the committed ones are those."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from edgekit.card import NOT_MEASURED, card_of
from edgekit.cli.main import run_command
from edgekit.data_folder import data_folder
from edgekit.errors import UsageError
from edgekit.measured import Column, Measurement, measured_file, read_measured, record
from edgekit.recipe import find_recipe, read_recipe

MODELS = data_folder("models")
CARDS = [path.name.removesuffix(".measured.json") for path in MODELS.glob("*.measured.json")]
SPEED = Measurement(
    "python b.py", "device", (Column("latency", "ms", 1), Column("share", "%")),
    {"here": [1234.56, 7], "there": [None, "none"]}, {"torch": "2.13.0"},
)  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return Path(shutil.copy(MODELS / "unet-c16.toml", tmp_path))


@pytest.mark.parametrize("name", CARDS)
def test_a_committed_card_is_what_the_verb_writes(name: str) -> None:
    written = (MODELS / f"{name}.md").read_text("utf-8")
    assert card_of(find_recipe(name)) == written, f"edgekit info {name} --card > models/{name}.md"


@pytest.mark.parametrize("name", CARDS)
def test_every_measurement_of_a_card_names_a_command_that_exists(name: str) -> None:
    for measurement in read_measured(find_recipe(name).path).values():
        script = re.match(r"python (benchmarks/\w+\.py)", measurement.command)
        assert script is None or (MODELS.parent / script[1]).is_file()
        assert script or measurement.command.startswith(("edgekit ", "make "))


def test_a_record_is_read_as_it_was_written_and_replaces_an_earlier_one(recipe: Path) -> None:
    record(recipe, "speed", SPEED)
    record(recipe, "other", SPEED)
    record(recipe, "speed", SPEED)
    assert read_measured(recipe) == {"speed": SPEED, "other": SPEED}


def test_a_card_has_the_table_its_command_and_the_figures_that_notes_quote(recipe: Path) -> None:
    record(recipe, "speed", SPEED)
    recipe.with_suffix(".notes.md").write_text("It takes {{speed | here | latency}}.\n")
    card = card_of(read_recipe(recipe))
    assert "It takes 1,234.6 ms." in card
    assert "| here | 1,234.6 | 7 % |" in card
    assert "| there |  | none |" in card
    assert "Measured by `python b.py`, with torch 2.13.0." in card


def test_notes_cannot_quote_what_was_not_measured(recipe: Path) -> None:
    recipe.with_suffix(".notes.md").write_text("{{speed | here | latency}}")
    with pytest.raises(UsageError, match="was not measured"):
        card_of(read_recipe(recipe))


def test_a_model_that_nothing_was_measured_of_says_so(recipe: Path) -> None:
    card = card_of(read_recipe(recipe))
    assert NOT_MEASURED in card
    assert "| parameters |" in card


def test_the_verb_prints_the_card_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["info", "unet-c16", "--card"]) == 0
    assert capsys.readouterr().out == card_of(find_recipe("unet-c16"))
    assert run_command(["info", "unet-c16", "--card", "--json"]) == 2


def test_a_damaged_file_of_measurements_is_named(recipe: Path) -> None:
    measured_file(recipe).write_text("{}")
    with pytest.raises(UsageError, match=r"unet-c16\.measured\.json does not hold measurements"):
        read_measured(recipe)
