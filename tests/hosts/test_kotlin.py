"""The pure part of the Android host, compiled and run; skipped where there is no Kotlin, but not in CI, which installs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_detector import register, write_detector

import edgekit
from edgekit.bundle import open_bundle
from edgekit.data_folder import data_folder
from edgekit.detection.letterbox import place
from edgekit.detection.suppression import suppressed
from edgekit.profiling.report_schema import first_fault

HOST = data_folder("export") / "android"
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("com.android.json", "junit4", "hamcrest", "kotlin-stdlib")
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of `:plan` and its tests."""
    if shutil.which("kotlinc") is None or not all(jar.is_file() for jar in JARS):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "Debian's packages kotlin, junit4 and libandroid-json-java are not installed, which the Android host is tested with"
        )
    folder = tmp_path_factory.mktemp("kotlin")
    path = ":".join(map(str, JARS))
    sources = [str(HOST / "plan" / "src" / part) for part in ("main", "test")]
    command = ["kotlinc", "-cp", path, *sources, "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return f"{folder}:{path}"


def java(classes: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["java", "-cp", classes, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        model = edgekit.load(str(write_detector(folder)))
        return edgekit.export(model, output=folder / "bundle", simplify=False).path


@pytest.mark.parametrize("name", ["VectorsTest", "BoxVectorsTest"])
def test_the_vectors_pass(classes: str, name: str) -> None:
    vectors = f"-Dedgekit.vectors={data_folder('export') / 'vectors'}"
    done = java(classes, vectors, "org.junit.runner.JUnitCore", f"edgekit.plan.{name}")
    assert done.returncode == 0, done.stdout


def test_its_report_and_its_boxes_are_edgekits(classes: str, detector: Path) -> None:
    done = java(classes, "edgekit.plan.EchoKt", str(detector))
    told, found = map(json.loads, done.stdout.splitlines())
    assert first_fault(told) == ""
    assert told["golden"]["passed"]
    assert {row["psnr_db"] for row in told["golden"]["outputs"]} == {999}
    bundle = open_bundle(detector)
    assert bundle.boxes is not None
    asked = bundle.boxes.thresholds()
    outputs = bundle.golden()[1]
    wanted = suppressed(
        outputs["boxes"][0], outputs["scores"][0], asked.score, asked.iou, asked.limit
    )  # type: ignore[arg-type]
    placed = place((300, 200), (96, 64), "letterbox").to_picture(wanted.boxes)
    assert len(wanted.labels) > 3
    rows = np.array(found["boxes"])
    np.testing.assert_array_equal(rows[:, 0], wanted.labels)
    np.testing.assert_allclose(rows[:, 1], wanted.scores, rtol=1e-6)
    np.testing.assert_allclose(rows[:, 2:], placed, rtol=1e-4, atol=1e-3)


def test_a_changed_file_is_named(classes: str, detector: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(detector, tmp_path / "changed")
    (file,) = copy.glob("*.onnx")
    file.write_bytes(file.read_bytes() + b" ")
    done = java(classes, "edgekit.plan.EchoKt", str(copy))
    assert done.stdout == ""
    assert f"{file.name} is not the file that was exported" in done.stderr
