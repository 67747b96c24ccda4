from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command

HEAVY = ("torch", "coremltools", "onnx", "onnxruntime", "numpy", "rich")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "arguments", [None, ["--help"], ["export", "--help"], ["list"], ["list", "--json"]]
)
def test_nothing_heavy_is_imported_for_names_and_help(arguments: list[str] | None) -> None:
    run = f"from edgekit.cli.main import run_command; assert run_command({arguments}) == 0"
    body = "import edgekit; dir(edgekit)" if arguments is None else run
    done = python(f"{body}\nimport sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_takes_under_a_third_of_a_second() -> None:
    """Of a processor, Python's own start included, the best of five; twice the promise, since machines are busy."""
    code = "from edgekit.cli.main import main; main()"

    def seconds() -> float:
        before = os.times()
        assert python(code, "--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before[2] - before[3]

    assert min(seconds() for _ in range(5)) < 0.6


def test_no_arguments_print_the_help(edgekit: Command) -> None:
    result = edgekit()
    assert result.code == 0
    assert result.err == ""
    assert result.out == edgekit("--help").out
    assert "..." not in result.out.partition("Commands:")[2]


def test_a_mistyped_verb_gets_the_nearest(edgekit: Command) -> None:
    result = edgekit("exprot")
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "Did you mean 'export'?" in result.err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--bogus"], "edgekit --help"),
        (["export"], "edgekit export --help"),
        (["split", "send", "--bogus"], "edgekit split send --help"),
    ],
)
def test_wrong_usage_names_the_help_of_its_verb(
    edgekit: Command, words: list[str], asked: str
) -> None:
    result = edgekit(*words)
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert result.err.endswith(f"See `{asked}`.\n")


@pytest.mark.parametrize("switch", ["--debug", "EDGEKIT_DEBUG"])
def test_a_traceback_is_shown_only_on_request(switch: str) -> None:
    code = "from edgekit.cli.main import main; main()"
    quiet = python(code, "info", "none")
    assert quiet.returncode == 2
    assert "Traceback" not in quiet.stderr
    environment = {**os.environ, "EDGEKIT_DEBUG": "1"} if switch.isupper() else None
    arguments = [sys.executable, "-c", code, "info", "none"]
    arguments += [] if switch.isupper() else [switch]
    loud = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert loud.returncode == 2
    assert "Traceback" in loud.stderr
    assert loud.stderr.endswith(quiet.stderr)


def test_what_nobody_foresaw_is_still_a_sentence(
    edgekit: Command, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> None:
        raise ZeroDivisionError("a bug\nwith a second line")

    monkeypatch.setattr("edgekit.api.verify", surprise)
    result = edgekit("verify", exported / "onnx")
    assert result.code == 1
    said = "edgekit: Unexpected ZeroDivisionError: a bug; --debug shows where. Please report it.\n"
    assert result.err.endswith(f"\n{said}")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -c 'from edgekit.cli.main import main; main()' list | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_logging_and_warnings_are_as_before_after_a_command(edgekit: Command) -> None:
    import logging
    import warnings

    before = (logging.root.manager.disable, list(warnings.filters))
    edgekit("list")
    edgekit("info", "none")
    assert (logging.root.manager.disable, list(warnings.filters)) == before
