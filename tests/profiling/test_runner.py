"""The runner for boards, run as a user would: by itself."""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from small_detector import register, write_detector
from torch import nn
from video_networks import TimeConv

import edgekit
from edgekit.profiling.devices.remote import runner_file
from edgekit.profiling.report_file import read_report
from edgekit.profiling.report_schema import first_fault

QUICK = ("--threads", "1", "--seconds", "0.2")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m edgekit_runner` where there is no edgekit."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "edgekit_runner", *map(str, arguments)],
        cwd=runner_file().parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def runner() -> dict[str, Any]:
    """Its names, without running it."""
    names: dict[str, Any] = {"__name__": "edgekit_runner", "__file__": str(runner_file())}
    exec(compile(runner_file().read_text(), "edgekit_runner.py", "exec"), names)
    return names


def test_it_imports_nothing_but_numpy_and_onnxruntime_and_is_python_3_8() -> None:
    tree = ast.parse(runner_file().read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("kind", ["small", "tiled"])
def test_its_report_is_sound_and_whole(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Path = request.getfixturevalue(kind)
    done = run(bundle, *QUICK)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert first_fault(report) == ""
    assert report["complete"]
    assert report["golden"]["passed"]
    assert report["golden"]["outputs"][0]["psnr_db"] > 100
    assert {one["memory"] for one in report["memory_bytes"]["process"]} == {
        "recommended",
        "default",
    }
    assert set(report["throughput_per_s"]) == {"1", "2", "4"}
    plan = bundle / "plan.json"
    windows = (
        sum(len(stage["windows"]) for stage in json.loads(plan.read_text())["stages"])
        if plan.is_file()
        else 1
    )
    assert sum(file["runs"] for file in report["layers"]) == windows


def test_a_stream_s_kept_frames_are_kept(tmp_path: Path) -> None:
    """Windows of a plan with state, against edgekit's own runner of plans."""
    torch.manual_seed(0)
    network = nn.Sequential(
        TimeConv(3, 4, 3, causal=True, zeros=True), nn.SiLU(), TimeConv(4, 3, 3, causal=True, zeros=True)
    )  # fmt: skip
    clip = torch.rand(1, 3, 6, 8, 8)
    edgekit.export(network, clip, output=tmp_path / "stream", stream=2, simplify=False)
    names = runner()
    options = names["parsed"]([str(tmp_path / "stream"), "--threads", "1"])
    manifest = names["read_manifest"](options.bundle)
    model = names["Model"](options.bundle, manifest, "recommended", options)
    assert any(
        port for stage in model.plan["stages"] for m in stage["models"] for port in m["after"]
    )
    inputs = names["read_golden"](options.bundle, "input.")
    (expected,) = edgekit.run(tmp_path / "stream", *inputs.values())
    (found,) = model.run(inputs).values()
    np.testing.assert_array_equal(found, expected)


def test_modules_and_multiplications_are_added_where_the_bundle_is(
    small: Path, tmp_path: Path
) -> None:
    assert run(small, *QUICK, "--output", tmp_path / "report.json").returncode == 0
    from edgekit.bundle import open_bundle

    found = read_report(tmp_path / "report.json", open_bundle(small))
    convolutions = [k for file in found.kernels for k in file.kernels if k.operator == "Conv"]
    assert convolutions[0].macs == 32 * 32 * 8 * 27
    assert any(kernel.module for kernel in convolutions)
    assert all(kernel.bound for kernel in convolutions)
    assert "golden" in found.text()


def test_a_run_that_is_stopped_leaves_what_it_had(small: Path, tmp_path: Path) -> None:
    """Its report is replaced whole, again and again."""
    names = runner()
    options = names["parsed"]([str(small), "--output", str(tmp_path / "report.json")])
    report = names["Report"](options)
    machine = names["machine"](options)
    report.tell(bundle="small", files={}, device=machine, latency_ms=names["latency"]([1.0, 2.0]))
    found = read_report(tmp_path / "report.json")
    assert "broke off" in found.incomplete
    assert "incomplete" in found.text()
    assert found.to_json()["complete"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("damage", ["changed", "missing", "coreml", "none"])
def test_what_is_no_sound_bundle_is_one_sentence(small: Path, tmp_path: Path, damage: str) -> None:
    bundle = Path(shutil.copytree(small, tmp_path / "copy"))
    (model,) = bundle.glob("*.onnx")
    manifest = bundle / "manifest.json"
    if damage == "changed":
        model.write_bytes(model.read_bytes() + b"\0")
    elif damage == "missing":
        model.unlink()
    elif damage == "coreml":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": "coreml"}))
    else:
        manifest.unlink()
    done = run(bundle, *QUICK)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgekit_runner: ")
    assert line.endswith(".")


def test_a_device_that_computes_something_else_is_told(small: Path) -> None:
    names = runner()
    manifest = json.loads((small / "manifest.json").read_text())
    expected = names["read_golden"](small, "output.")
    noise = {key: value + np.float32(0.1) for key, value in expected.items()}
    broken = {key: np.full_like(value, np.nan) for key, value in expected.items()}
    check = names["golden_check"]
    assert check(manifest, expected, expected)["passed"]
    assert not check(manifest, expected, noise)["passed"]
    assert check(manifest, expected, broken)["outputs"][0]["psnr_db"] is None
    assert not check(manifest, expected, {})["passed"]


def test_scores_that_all_became_zero_are_no_peaks_that_fell_the_other_way() -> None:
    check = runner()["golden_check"]
    spec = {"name": "scores", "low": 0.0, "high": 1.0, "dtype": "float32"}
    gate = {"psnr_db": 50.0, "integers_differ": 0.0, "detections": {"psnr_db": 30.0}}
    manifest = {"outputs": [spec], "gate": gate}
    scores = np.array([0, 0.5, 1, 0.2], np.float32)
    one_fell = np.array([0.1, 0.5, 1, 0], np.float32)
    assert check(manifest, {"scores": scores}, {"scores": one_fell})["passed"]
    assert not check(manifest, {"scores": scores}, {"scores": scores * 0})["passed"]


def test_boxes_of_a_file_that_suppresses_by_itself_are_held_against_those_promised(
    tmp_path: Path,
) -> None:
    """A shifted box, another class and a missing box leave the scores as they are, or nearly."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        model = edgekit.load(str(write_detector(tmp_path)))
        edgekit.export(model, output=tmp_path / "bundle", simplify=False, nms=True)
    names = runner()
    options = names["parsed"]([str(tmp_path / "bundle"), "--threads", "1"])
    manifest = names["read_manifest"](options.bundle)
    expected = names["read_golden"](options.bundle, "output.")
    inputs = names["read_golden"](options.bundle, "input.")
    found = names["Model"](options.bundle, manifest, "recommended", options).run(inputs)
    assert names["golden_check"](manifest, expected, found)["passed"]
    labels, at = found["labels"], np.flatnonzero(found["labels"][0] >= 0)[0]
    others = labels.copy(), labels.copy()
    others[0][0, at] = (labels[0, at] + 1) % 3
    others[1][0, at] = -1
    for name, wrong in (("boxes", found["boxes"] + 1), *(("labels", one) for one in others)):
        assert not names["golden_check"](manifest, expected, {**found, name: wrong})["passed"]
    without = {**manifest, "gate": {**manifest["gate"], "detections": None}}
    rows = names["golden_check"](without, expected, found)["outputs"]
    assert [row["psnr_db"] for row in rows] == [None] * len(manifest["outputs"])


def test_a_provider_that_is_not_there_is_named(small: Path) -> None:
    done = run(small, "--provider", "QNNExecutionProvider")
    assert done.returncode == 1
    assert "has no QNNExecutionProvider; it has" in done.stderr


@pytest.mark.parametrize("operator", ["MatMul", "Relu"])
def test_its_models_of_one_operator_are_what_they_say(operator: str) -> None:
    model = onnx.load_model_from_string(base64.b64decode(runner()["MODELS"][operator]))
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == [operator]
