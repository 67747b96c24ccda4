"""A detector under a memory budget: the planned file finds what the model finds, in less memory.

`python benchmarks/detector_budgets.py` does the same for every detector at its size.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit


@pytest.mark.slow
def test_a_detector_of_768_kib_fits_into_432_and_finds_the_same_boxes(tmp_path: Path) -> None:
    model = edgekit.load("leyolo-nano", height=128, width=128)
    bundle = edgekit.export(
        model, output=tmp_path / "planned", memory_budget="432KiB", simplify=False, verify=False
    )
    assert (bundle.path / "plan.json").exists()
    report = edgekit.verify(bundle)
    assert report.passed
    assert report.detections is not None
    assert report.detections.missing == report.detections.extra == 0
