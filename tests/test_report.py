from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

from edgekit.report import Gate, OutputParity, Report, aligned

GATE = Gate(50.0)
IDENTICAL = OutputParity("video", math.inf, 0.0, 0.0, 1.0, True)
BROKEN = OutputParity("mask", math.nan, math.nan, math.nan, math.nan, False, "3 values are NaN.")


def report(*outputs: OutputParity) -> Report:
    passed = all(output.passed for output in outputs)
    return Report(passed, outputs, "onnxruntime CPU", GATE, ("a note",))


def test_identical_outputs_have_999_db_in_json_so_that_a_script_can_compare() -> None:
    data: Any = report(IDENTICAL).to_json()
    assert data["outputs"][0]["psnr_db"] == 999.0


def test_json_never_holds_infinity_or_nan() -> None:
    text = json.dumps(report(IDENTICAL, BROKEN).to_json(), allow_nan=False)
    broken = json.loads(text)["outputs"][1]
    assert [broken[key] for key in ("psnr_db", "max_abs", "mean_abs", "cosine")] == [None] * 4


def test_json_has_the_fields_that_scripts_rely_on() -> None:
    data: Any = report(IDENTICAL).to_json()
    assert data.keys() >= {"passed", "outputs", "reference"}
    assert data["outputs"][0].keys() >= {"name", "psnr_db", "max_abs", "mean_abs", "cosine"}


def test_the_table_says_why_an_output_failed_and_what_computed_it() -> None:
    lines = report(IDENTICAL, BROKEN).table().splitlines()
    assert lines[1].split() == ["video", "identical", "0", "0", "1.000000", "pass"]
    assert lines[2].split() == ["mask", "-", "-", "-", "-", "FAIL"]
    assert "mask: 3 values are NaN." in lines
    assert lines[-1] == "gate: 50 dB; computed by onnxruntime CPU"


def test_columns_start_below_their_heading() -> None:
    heading, row = aligned([("name", "number"), ("a long name", "1")]).splitlines()
    assert heading.index("number") == row.index("1")


def test_importing_the_report_loads_no_heavy_package() -> None:
    code = "import sys, edgekit.report; print({'torch', 'numpy', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
