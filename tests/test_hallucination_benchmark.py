from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from marked_pictures import write_marked_pictures, write_talkative_weights
from PIL import Image
from tiny_training import RECIPE

import edgekit as api
from edgekit.detection.detector import detector_of_model
from edgekit.detection.safety import FILTERS

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "hallucinations.py"


@pytest.mark.slow
def test_the_benchmark_counts_boxes_where_nothing_known_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(RECIPE)
    weights = Path("weights.safetensors")
    write_talkative_weights("tiny.toml", weights)
    first = Path("sets/calibration")
    write_marked_pictures("tiny.toml", weights, first / "annotations.json", first / "pictures")
    for name in ("held-out", "near", "far"):
        shutil.copytree(first, Path("sets") / name)
    content = json.loads((first / "annotations.json").read_text()) | {"annotations": []}
    for name in ("near", "far"):
        (Path("sets") / name / "annotations.json").write_text(json.dumps(content))
    arguments = ["sets", str(weights), str(weights), "--model", "tiny.toml", "--json", "rows.json"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--pictures", "20"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(Path("rows.json").read_text())
    assert [(row["weights"], row["filter"]) for row in rows] == [
        (label, name) for label in ("before", "after") for name in ("none", *FILTERS)
    ]
    detector = detector_of_model(api.load("tiny.toml", weights))
    shown = sum(
        len(detector(Image.open(f"sets/near/pictures/{n}.png"), detector.thresholds_for()))
        for n in range(1, 21)
    )
    assert rows[0]["near"] == rows[0]["far"] == rows[5]["near"] == shown
    for row in rows:
        assert row["near"] <= shown
        assert 0 < row["kept"] <= 1
        assert row["ap_cut"] <= row["ap"] + 0.05
    assert all(0.8 < row["fpr95_near"] <= 1 for row in rows if row["filter"] != "none")
    assert "FPR95 near" in done.stdout
