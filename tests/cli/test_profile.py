from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

from edgekit.profiling.report_schema import first_fault

QUICK = ("--threads", "1", "--seconds", "0.3")


@pytest.fixture(scope="module")
def tiled(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from torch import nn

    import edgekit

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1))
    folder = tmp_path_factory.mktemp("tiled") / "tiled"
    edgekit.export(network, torch.rand(1, 3, 32, 32), output=folder, tiles="2x2", simplify=False)
    return folder


def test_a_profile_has_the_fields_that_scripts_rely_on(edgekit: Command, exported: Path) -> None:
    done = edgekit("profile", exported / "onnx", *QUICK, "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert first_fault(found) == ""  # what a device's report must have
    latency = found["latency_ms"]
    assert latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
    assert latency["p50"] == pytest.approx(
        sorted(latency["samples"])[len(latency["samples"]) // 2], rel=0.2
    )
    assert {"static_peak", "runtime_peak", "process_peak"} <= set(found["memory_bytes"])
    recommended = found["memory_bytes"]["process"][0]
    assert found["memory_bytes"]["process_peak"] >= recommended["load_peak_bytes"]
    assert (
        found["memory_bytes"]["process_peak"]
        >= recommended["loaded_bytes"] + recommended["run_peak_bytes"]
    )
    assert found["device"]["threads"] == 1
    (file,) = found["layers"]
    assert sum(kernel["macs"] for kernel in file["kernels"]) > 0
    convolutions = [kernel for kernel in file["kernels"] if kernel["operator"] == "Conv"]
    assert convolutions
    assert any(kernel["module"] for kernel in convolutions)  # rewrites make some that have none
    columns = {
        "name", "module", "inputs", "outputs", "macs", "parameters", "parameter_bytes", "p50_ms", "p90_ms", "share",
        "gmacs_per_s", "macs_per_byte", "bound", "activation_bytes", "live_bytes", "provider", "partition",
        "element_type", "is_integer", "is_aligned",
    }  # fmt: skip
    assert all(columns <= set(kernel) for kernel in file["kernels"])
    assert sum(kernel["share"] for kernel in file["kernels"]) == pytest.approx(1)
    assert all(kernel["parameters"] for kernel in convolutions)
    assert found["kernels_ms"] == pytest.approx(sum(kernel["p50_ms"] for kernel in file["kernels"]))
    assert found["files"] == json.loads((exported / "onnx" / "manifest.json").read_text())["files"]


def test_the_table_names_latency_layers_and_memory(edgekit: Command, exported: Path) -> None:
    done = edgekit("profile", exported / "onnx", *QUICK)
    assert done.code == 0, done.err
    for word in (
        "latency",
        "ms median",
        "throughput",
        "roofline",
        "Conv",
        "by operator",
        "recommended",
    ):
        assert word in done.out


def test_a_plan_s_files_count_once_for_each_window(edgekit: Command, tiled: Path) -> None:
    done = edgekit("profile", tiled, *QUICK, "--json")
    assert done.code == 0, done.err
    found = done.json()
    plan = json.loads((tiled / "plan.json").read_text())
    windows = sum(len(stage["windows"]) for stage in plan["stages"])
    assert sum(file["runs"] for file in found["layers"]) == windows
    assert found["memory_bytes"]["static_peak"] == plan["peak_bytes"]


def test_two_bundles_are_compared_in_turns(edgekit: Command, exported: Path, tiled: Path) -> None:
    done = edgekit("profile", exported / "onnx", tiled, *QUICK, "--json")
    assert done.code == 0, done.err
    found = done.json()
    low, high = found["interval"]
    assert low <= found["ratio"] <= high
    assert [entry["bundle"] for entry in found["bundles"]] == ["onnx", "tiled"]


def test_a_regression_ends_with_code_3(edgekit: Command, exported: Path, tmp_path: Path) -> None:
    first = edgekit("profile", exported / "onnx", *QUICK, "--json").json()
    baseline = tmp_path / "old.json"
    for factor, code in ((1000, 0), (0.001, 3)):
        latency = first["latency_ms"]
        changed = {
            "p50": latency["p50"] * factor,
            "interval": [v * factor for v in latency["interval"]],
        }
        baseline.write_text(json.dumps(first | {"latency_ms": latency | changed}))
        done = edgekit("profile", exported / "onnx", *QUICK, "--baseline", baseline)
        assert done.code == code, done.err
        assert ("FAIL" in done.out) is (code == 3)


def test_a_core_ml_bundle_is_not_timed_in_the_interpreter(edgekit: Command, exported: Path) -> None:
    done = edgekit("profile", exported / "coreml", *QUICK)
    assert done.code == 2
    assert done.is_one_sentence()
    assert "reference interpreter" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seconds", "0"), "cannot be timed"),
        (("--baseline", "none.json"), "cannot be read"),
        (("--baseline", "none.json", "--max-regression", "much"), "no share"),
        (("--device", "phone"), "is no device: give local, ssh://"),
        (("--device", "phone", "--from", "none.json"), "nothing is measured; leave --device away"),
        (("--from", "none.json"), "cannot be read"),
        (("--image", "photo.jpg", "--device", "ssh://board"), "on this machine only"),
        (("--provider", "QNNExecutionProvider"), "has no QNNExecutionProvider"),
        (("--from", "none.json", "--threads", "1"), "nothing is measured; leave --threads away"),
        (("--from", "none.json", "--seconds", "3"), "nothing is measured; leave --seconds away"),
        (("--from", "none.json", "--image", "photo.jpg"), "leave --image away"),
        (("--device", "folder:package", "--html", "r.html"), "leave --html away"),
        (("--device", "folder:package", "--baseline", "old.json"), "leave --baseline away"),
        (("--max-regression", "3%"), "There is no --baseline"),
        (("--image", "a.jpg", "--video", "a.mp4"), "Give one of"),
        (("--latent", "a.npy", "--provider", "QNNExecutionProvider"), "leave --latent away"),
        (("--to", "127.0.0.1:9"), "there is no --image and no --video; leave --to away"),
        (("--keep", "2"), "leave --keep away"),
        (("--image", "a.jpg", "--tls"), "There is no server that --to names; leave --tls away"),
        (("--image", "a.jpg", "--to", "127.0.0.1:9"), "holds a whole network"),
        (("--image", "a.jpg", "--to", "127.0.0.1:9", "--ca", "ca.pem"), "--ca belongs to --tls"),
        (("--from", "none.json", "--to", "127.0.0.1:9"), "leave --to away"),
        (("--device", "ssh://board", "--keep", "2"), "on this machine only; leave --keep away"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(
    edgekit: Command, exported: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = edgekit("profile", exported / "onnx", *arguments)
    assert done.code == 2
    assert done.is_one_sentence()
    assert said in done.err


def test_there_must_be_something_to_profile(edgekit: Command, exported: Path) -> None:
    done = edgekit("profile")
    assert done.code == 2
    assert done.is_one_sentence()
    done = edgekit("profile", exported / "onnx", exported / "onnx", "--html", "report.html")
    assert done.code == 2
    assert "Two bundles" in done.err


def test_opening_is_timed_without_what_only_a_profile_does(
    edgekit: Command, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing the files, which a run does not."""
    from edgekit.bundle import Bundle
    from edgekit.profiling.opened import Sessions, open_for_measuring

    def hashed(_bundle: Bundle) -> list[str]:
        raise AssertionError("hashed")

    monkeypatch.setattr(Bundle, "changed_files", hashed)
    from edgekit.bundle import open_bundle

    bundle = open_bundle(exported / "onnx")
    inputs = bundle.golden_inputs()
    monkeypatch.setattr(Bundle, "golden_inputs", hashed)
    assert open_for_measuring(bundle, Sessions(1), inputs).run()


def test_a_file_that_was_changed_is_not_measured(edgekit: Command, onnx_copy: Path) -> None:
    (file,) = onnx_copy.glob("*.onnx")
    file.write_bytes(file.read_bytes() + b"\0")
    done = edgekit("profile", onnx_copy, *QUICK)
    assert done.code == 2
    assert "is not the file that was exported" in done.err
