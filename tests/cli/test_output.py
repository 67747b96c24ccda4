"""What verbs tell on stderr while they work."""

from __future__ import annotations

import itertools

import pytest
from command_line import Command

from edgekit.cli import output


def test_an_export_tells_its_phases_where_stderr_is_no_terminal(
    edgekit: Command, place: object
) -> None:
    result = edgekit("export", "factories:make", "--target", "onnx", "-o", "b", "--json")
    assert result.json()["bundle"] == "b"
    phases = ["load", "capture and rewrite", "convert to onnx", "simplify", "verify"]
    assert result.err.splitlines() == [f"edgekit export: {phase}" for phase in phases]


def test_of_what_is_counted_a_line_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(100.0, output.PRINT_EVERY_S / 4)
    monkeypatch.setattr(output.time, "monotonic", lambda: next(seconds))
    with output.progress("prune") as show:
        show("trace")
        for number in range(1, 11):
            show(f"sensitivity of layer{number} ({number} of 10)")
        for number in range(1, 5):
            show(f"tune {number}/4  loss 0.1")
        show("cut")
    told = [line.removeprefix("edgekit prune: ") for line in capsys.readouterr().err.splitlines()]
    assert told[0] == "trace"
    assert told[1] == "sensitivity of layer1 (1 of 10)"
    assert sum(line.startswith("sensitivity") for line in told) == 3
    assert [line for line in told if line.startswith("tune")] == ["tune 1/4  loss 0.1"]
    assert told[-1] == "cut"
