"""Of a split bundle a device runs the head, and that is what a profile measures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_runner import QUICK, run, runner

from edgekit.bundle import open_bundle, write_golden
from edgekit.profiling.devices.folder import write_package
from edgekit.profiling.of_bundle import ProfileOptions, compare_bundles, profile_bundle
from edgekit.profiling.opened import device_files
from edgekit.profiling.report_file import parse_report
from edgekit.profiling.report_schema import first_fault
from edgekit.profiling.result import Profile
from edgekit.profiling.timing import TimingOptions
from edgekit.split.codec import CalibratedCodec, Codec, DynamicCodec, EntropyCodec
from edgekit.split.quantise8 import Calibration
from edgekit.split.tables import Tables
from edgekit.split_parity import before_rounding, near

OPTIONS = ProfileOptions(1, TimingOptions(0.1))


@pytest.fixture(scope="module")
def found(halved: Path) -> Profile:
    return profile_bundle(open_bundle(halved), OPTIONS)


def test_the_network_is_the_head_s_file(found: Profile, halved: Path) -> None:
    assert [file.file for file in found.kernels] == ["head.onnx"]
    assert found.golden is not None
    assert found.golden.passed
    assert [row.name for row in found.golden.outputs] == ["symbols"]
    ours = ("head.onnx", "calibration.json", "packet.json")
    assert found.disk_bytes == sum((halved / name).stat().st_size for name in ours)
    told = dict(found.facts())["network"]
    assert told == "the head, which ends with features.1; its tails run on a server"
    assert first_fault(found.to_json()) == ""
    assert found.to_json()["split"] == {"layer": "features.1"}


def test_a_board_needs_no_tail_and_its_report_says_that_it_is_the_head_s(
    halved: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(halved)
    package = write_package(tmp_path / "package", bundle, OPTIONS)
    assert not list(package.rglob("tail*"))
    done = run(package / halved.name, *QUICK)
    assert done.returncode == 0, done.stderr
    report = parse_report(done.stdout, "the board's report", bundle)
    assert report.golden is not None
    assert report.golden.passed
    assert [row.name for row in report.golden.outputs] == ["symbols"]
    assert report.head is not None
    assert report.head.layer == "features.1"
    assert [file.file for file in report.kernels] == ["head.onnx"]
    silent = json.dumps({**json.loads(done.stdout), "split": None})
    assert parse_report(silent, "a tool's report", bundle).head == report.head


def test_a_head_that_computes_something_else_fails(halved: Path, tmp_path: Path) -> None:
    bundle = open_bundle(Path(shutil.copytree(halved, tmp_path / "copy")))
    inputs, outputs = bundle.golden()
    latent = bundle.golden_parts()["latent"]
    write_golden(bundle.path, inputs, outputs, {"latent": latent + np.ptp(latent)})
    files = {name: digest for name, digest in bundle.manifest["files"].items() if "golden" not in name}  # fmt: skip
    changed = replace(bundle, manifest={**bundle.manifest, "files": {**files, "golden.safetensors": ""}})  # fmt: skip
    names = runner()
    head = names["Model"](bundle.path, bundle.manifest, "default", names["parsed"]([str(halved)]))
    told = names["checked"](bundle.path, bundle.manifest, head.run(inputs))
    assert not told["passed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(bundle), "changed_files", lambda _: [])
        golden = profile_bundle(changed, OPTIONS).golden
    assert golden is not None
    assert not golden.passed
    assert golden.outputs[0].psnr_db == pytest.approx(told["outputs"][0]["psnr_db"], abs=0.01)


def test_a_head_without_its_golden_latent_is_one_sentence(tmp_path: Path) -> None:
    names = runner()
    write_golden(tmp_path, {}, {}, {})
    with pytest.raises(names["RunnerError"], match="has no golden latent; export the model again"):
        names["head_pair"](tmp_path, "dynamic", np.zeros((5, 4, 6), np.float32))


def test_two_heads_are_compared_as_heads(halved: Path) -> None:
    bundle = open_bundle(halved)
    assert compare_bundles(bundle, bundle, OPTIONS).names == (f"the head of {halved.name}",) * 2
    assert "tail.onnx" not in device_files(bundle)


CODECS: list[Codec] = [
    EntropyCodec(Tables((0.4, -0.1, 2.0, 0.0, 1.5), (-2,) * 5, ((0, 9, 60000),) * 5)),
    CalibratedCodec(Calibration((0.1, 0.5, 1.0, 2.0, 0.01), (0, 10, 128, 200, 255))),
    DynamicCodec(5),
]


@pytest.mark.parametrize("codec", CODECS, ids=["entropy", "calibrated", "dynamic"])
def test_the_runner_holds_a_head_to_what_verify_holds_it_to(codec: Codec, tmp_path: Path) -> None:
    coding = ("entropy", "calibrated", "dynamic")[codec.number - 1]
    latent = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    write_golden(tmp_path, {}, {}, {"latent": latent})
    if isinstance(codec, EntropyCodec):
        codec.tables.write(tmp_path / "tables.json")
    elif isinstance(codec, CalibratedCodec):
        codec.calibration.write(tmp_path / "calibration.json")
    given = np.rint(before_rounding(codec, latent) + 0.2)
    wanted, got = runner()["head_pair"](tmp_path, coding, given)
    np.testing.assert_array_equal(wanted, before_rounding(codec, latent))
    np.testing.assert_array_equal(got, near(codec, latent, given))
