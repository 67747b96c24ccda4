from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from marked_pictures import write_marked_pictures, write_talkative_weights
from PIL import Image
from tiny_training import RECIPE

import edgekit as api
from edgekit.detection.coco_annotations import Annotations, CocoBox, CocoImage
from edgekit.detection.detections import Detections
from edgekit.detection.detector import detector_of_model
from edgekit.detection.evidence import Evidence
from edgekit.detection.filter_logits import MaxLogit
from edgekit.detection.safety import FILTERS, Calibrated, Safety

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import hallucinations
import make_composites

SCRIPT = hallucinations.__file__


def boxes_in_near(weights: str | Path) -> int:
    detector = detector_of_model(api.load("tiny.toml", weights))
    return sum(
        len(detector(Image.open(f"sets/near/pictures/{n}.png"), detector.thresholds_for()))
        for n in range(1, 21)
    )


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
    write_talkative_weights("tiny.toml", Path("shyer.safetensors"), bias=-1.6)
    arguments = [
        "sets",
        f"before={weights}",
        "after=shyer.safetensors",
        "--model",
        "tiny.toml",
        "--json",
        "rows.json",
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments, "--pictures", "20"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(Path("rows.json").read_text())
    assert [(row["weights"], row["filter"]) for row in rows] == [
        (label, name) for label in ("before", "after") for name in ("none", *FILTERS)
    ]
    talkative, shyer = (boxes_in_near(name) for name in (weights, "shyer.safetensors"))
    assert rows[0]["near"] == rows[0]["far"] == talkative
    assert rows[5]["near"] == shyer < talkative
    assert any(row["near"] < talkative for row in rows[1:5])  # what filters are for
    for row in rows:
        assert 0 < row["kept"] <= 1
        assert row["ap_cut"] <= row["ap"] + 0.05
    assert all(0.8 < row["fpr95_near"] <= 1 for row in rows if row["filter"] != "none")
    assert "FPR95 near" in done.stdout


def test_weights_that_find_nothing_rightly_have_figures_that_are_no_numbers() -> None:
    pytest.importorskip("pycocotools")
    told = Evidence(np.full((1, 1), 3.0, np.float32), np.ones((1, 2), np.float32))
    far_off = np.array([[40, 40, 50, 50]], np.float32)
    found = Detections(far_off, np.array([0.9], np.float32), np.zeros(1, np.int64), told)
    truth = Annotations(
        (CocoImage(1, Path("1.png"), 64, 64),), {1: "red"},
        (CocoBox(1, 1, (0.0, 0.0, 10.0, 10.0), 100.0, is_crowd=False),), (),
    )  # fmt: skip
    safety = Safety(
        {"max-logit": Calibrated(MaxLogit(), 2.0)}, classes=1, features=2, acceptance=0.95, score=0.5,
        pictures=1, boxes=1,
    )  # fmt: skip
    unknown = {"near": [found], "far": [found]}
    row = hallucinations.Seen(truth, {0: (1, "red")}, [found], unknown, safety).row(
        "w", "max-logit"
    )
    assert math.isnan(row.kept)
    assert math.isnan(row.fpr95_near)
    assert (row.near, row.far, row.ap) == (1, 1, 0)


def test_composites_are_not_written_over_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near").mkdir()
    monkeypatch.setattr(sys, "argv", ["make_composites.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"near exists; remove it.*\(--near 0\)\.$"):
        make_composites.main()
    assert [path.name for path in tmp_path.iterdir()] == ["near"]
