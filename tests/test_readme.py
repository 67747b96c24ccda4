"""What only the README promises; that its commands run is tested with those of the other pages, in test_documents.py."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer
from documents import DOCUMENTS, README, ROOT, name_of

from edgekit.cli.main import app

TEXT = README.read_text("utf-8")
MOST_LINES = 160


def test_every_verb_is_named_in_the_readme_and_on_a_page() -> None:
    verbs = set(vars(typer.main.get_command(app))["commands"])
    pages = "\n".join(page.read_text("utf-8") for page in DOCUMENTS if page != README)
    for verb in verbs:
        assert re.search(rf"`(edgekit )?{verb}\b", TEXT), verb
        assert f"edgekit {verb}" in pages, verb


def test_the_readme_is_short_and_begins_with_what_a_stranger_does() -> None:
    assert TEXT.count("\n") <= MOST_LINES
    first = TEXT.index("edgekit export mypackage.nets:make_net")
    assert len(re.findall(r"^(?:make|pip|edgekit) ", TEXT[:first], re.MULTILINE)) <= 5


def test_every_number_of_the_readme_links_to_the_script_that_prints_it() -> None:
    table = TEXT[TEXT.index("## Numbers") : TEXT.index("## What the proof proves")]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        assert re.search(r"\[`python (benchmarks/\w+\.py)[^`]*`\]\(\1\)", row), row


def test_every_number_of_the_readme_stands_among_all_numbers_too() -> None:
    every = (ROOT / "docs" / "numbers.md").read_text("utf-8")
    table = TEXT[TEXT.index("## Numbers") : TEXT.index("## What the proof proves")]
    for row in [line for line in table.splitlines() if line.startswith("| ")][1:]:
        assert row.split(" | ")[1] in every, row


def test_no_page_is_forgotten_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in DOCUMENTS:
        if page != README:
            assert name_of(page).removeprefix("docs/") in navigation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("onnx_speed.py", ["--size", "32x32", "--frames", "2", "--rounds", "1"], "times as fast"),
        ("startup.py", [], "import edgekit loads"),
        ("split_coding.py", [], "| Entropic Student 24x55x55 | 72600 | 3.2886 | 3.2881 |"),
    ],
)
def test_a_benchmark_prints_what_the_table_quotes(
    script: str, options: list[str], words: str
) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
