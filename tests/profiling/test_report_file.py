"""Reports as devices bring them back, sound and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle import open_bundle
from edgekit.cli.main import run_command
from edgekit.errors import UsageError
from edgekit.profiling.devices.device import Folder, find_device
from edgekit.profiling.devices.remote import RUNNER, found_folder
from edgekit.profiling.devices.ssh import SshLink
from edgekit.profiling.report_file import parse_report, read_report
from edgekit.profiling.report_schema import first_fault

DEVICE = {"processor": "A17", "architecture": "arm64", "system": "iOS 17", "cpus": 6, "runtime": "Core ML all", "threads": 0}  # fmt: skip


def report(**fields: Any) -> dict[str, Any]:
    """The least that a report must have."""
    least = {"schema": 1, "bundle": "b", "files": {}, "device": DEVICE, "latency_ms": {"samples": [2.0, 1.0, 3.0]}}  # fmt: skip
    return least | fields


def test_the_least_report_is_shown_and_completed() -> None:
    found = parse_report(json.dumps(report()), "r.json")
    assert "2.00 ms median" in found.text()
    assert "threads of its own choice" in found.text()
    told = found.to_json()
    assert told["latency_ms"]["p50"] == 2.0
    assert told["gap"] is None
    assert first_fault(told) == ""


def test_what_is_written_is_read_the_same() -> None:
    whole = report(
        files={"f": "0"}, roofline={"gmacs_per_s": 10.0, "gbytes_per_s": 2.0},
        load_ms={"cold_ms": 5.0, "first_run_ms": 2.0, "warm_ms": 1.0, "is_cold": True},
        throughput_per_s={"1": 100.0},
        layers=[{"file": "f", "runs": 2, "whole_ms": 2.0, "kernels": [
            {"name": "c", "operator": "Conv", "provider": "CPU", "inputs": [[1, 3, 8, 8], [4, 3, 3, 3]],
             "outputs": [[1, 4, 8, 8]], "p50_ms": 0.5, "p90_ms": 0.6, "read_bytes": 768}]}],
    )  # fmt: skip
    once = parse_report(json.dumps(whole), "r.json").to_json()
    assert once["layers"][0]["kernels"][0]["macs"] == 4 * 8 * 8 * 27
    assert parse_report(json.dumps(once), "r.json").to_json() == once


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, "schema is 2 and must be 1"),
        ({"latency_ms": {"samples": []}}, "latency_ms.samples has 0 items and needs 1"),
        ({"latency_ms": {"samples": [1, "x"]}}, 'latency_ms.samples[1] is "x" and must be of type number'),
        ({"latency_ms": {"samples": [-1]}}, "must be above 0"),
        ({"latency_ms": {"samples": [0]}}, "must be above 0"),
        ({"roofline": {"gmacs_per_s": 1, "gbytes_per_s": 0}}, "roofline.gbytes_per_s is 0 and must be above 0"),
        ({"layers": [{"file": "../x.onnx", "runs": 1, "whole_ms": 1, "kernels": []}]}, "'../x.onnx', which is none of its files"),
        ({"device": {**DEVICE, "threads": True}}, "device.threads is true and must be of type integer"),
        ({"device": {}}, "device has no 'processor'"),
        ({"device": {**DEVICE, "before": {"load": 1}}}, "device.before has no 'frequency_mhz'"),
        ({"files": {"f": 3}}, "files.f is 3 and must be of type string"),
        ({"memory_bytes": {"process": [{"memory": "other"}]}}, "has no 'load_peak_bytes'"),
        ({"throughput_per_s": {"many": 1.0}}, "throughput_per_s"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_report(json.dumps(report(**fields)), "r.json")
    assert str(caught.value).startswith("r.json is no report of a device: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "NaN", "1e999", '{"schema": NaN}', "3", "[" * 100_000])
def test_what_is_no_json_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"^r\.json is no report of a device: "):
        parse_report(text, "r.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=40)
@given(st.sampled_from(["device", "latency_ms", "layers", "memory_bytes", "load_ms", "golden", "warm_up",
                        "roofline", "throughput_per_s", "complete", "disk_bytes"]), values)  # fmt: skip
def test_whatever_a_field_holds_it_is_read_or_refused(field: str, value: Any) -> None:
    try:
        found = parse_report(json.dumps(report(**{field: value})), "r.json")
    except UsageError:
        return
    assert found.text()


def test_a_package_has_all_that_its_command_needs(small: Path, tmp_path: Path) -> None:
    place = tmp_path / "package"
    arguments = ["profile", str(small), "--device", f"folder:{place}", "--seconds", "3"]
    assert run_command(arguments) == 0
    assert {path.name for path in place.iterdir()} == {RUNNER, "README.txt", "small"}
    assert {p.name for p in (place / "small").iterdir()} == {p.name for p in small.iterdir()}
    assert "edgekit_runner.py ./small --threads 0 --seconds 3" in (place / "README.txt").read_text()
    assert run_command(arguments) == 2  # never written over
    other = ["--device", f"folder:{tmp_path / 'other'}", "--provider", "XnnpackExecutionProvider"]
    assert run_command(["profile", str(small), *other]) == 0
    assert "--provider Xnnpack" in (tmp_path / "other" / "README.txt").read_text()
    assert run_command(["profile", str(small), *other[2:]]) == 2  # here it is the CPU's


def test_a_report_of_another_bundle_is_refused(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report()))
    with pytest.raises(UsageError, match="of other files"):
        read_report(file, open_bundle(small))
    with pytest.raises(UsageError, match="cannot be read"):
        read_report(tmp_path / "none.json")


def test_a_report_can_be_shown_without_its_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report(complete=False)))
    assert run_command(["profile", "--from", str(file)]) == 0
    assert "broke off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [("phone", "is no device"), ("ssh://", "is no device"), ("ssh://-oProxyCommand=x", "is no device"),
     ("adb://-s", "is no device"), ("folder:", "is no device")],
)  # fmt: skip
def test_a_name_of_no_device_is_one_sentence(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_device(name)


def test_devices_are_found_by_their_names(tmp_path: Path) -> None:
    found = find_device("ssh://pi@board.local:2222/home/pi/venv/bin/python")
    assert found.link == SshLink("pi@board.local", 2222, "/home/pi/venv/bin/python")  # type: ignore[attr-defined]
    assert find_device("ssh://board").link == SshLink("board")  # type: ignore[attr-defined]
    assert find_device("adb://127.0.0.1:5555/python").link.serial == "127.0.0.1:5555"  # type: ignore[attr-defined]
    assert find_device(f"folder:{tmp_path}") == Folder(tmp_path)


PLACE = SshLink("board").temporary


@pytest.mark.parametrize(
    ("said", "folder"),
    [(f"{PLACE}/edgekit-abc123\n/dev/sda 1 1 1\n", f"{PLACE}/edgekit-abc123"),
     (f"Welcome\n/home\n{PLACE}/edgekit-Ab1_23\n", f"{PLACE}/edgekit-Ab1_23"),
     ("/\n", ""), (f"{PLACE}/edgekit-abc123/../..\n", ""), (f"{PLACE}/edgekit-\n", ""), ("", "")],
)  # fmt: skip
def test_nothing_that_a_login_shell_prints_is_taken_for_the_folder_to_remove(
    said: str, folder: str
) -> None:
    assert found_folder(SshLink("board"), said).partition("\n")[0] == folder


def test_a_device_s_names_do_not_move_the_cursor() -> None:
    found = parse_report(
        json.dumps(report(bundle="\x1b[2Jb", device={**DEVICE, "system": "a\nb"})), "r.json"
    )
    assert found.bundle == "?[2Jb"
    assert "a?b" in found.text()
