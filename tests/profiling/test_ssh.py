"""Bundles measured through the system's ssh client and a real sshd."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_sshd
from real_sshd import Sshd

from edgekit.bundle import open_bundle
from edgekit.cli.main import run_command
from edgekit.errors import LinkError, MissingEnvironmentError, UsageError
from edgekit.profiling.devices import remote
from edgekit.profiling.devices.device import find_device
from edgekit.profiling.devices.here import HereLink
from edgekit.profiling.devices.pairs import compare_over
from edgekit.profiling.devices.remote import measure_over
from edgekit.profiling.devices.ssh import SshLink
from edgekit.profiling.of_bundle import ProfileOptions
from edgekit.profiling.timing import TimingOptions

pytestmark = pytest.mark.skipif(bool(real_sshd.reason_against()), reason=real_sshd.reason_against())
QUICK = ProfileOptions(1, TimingOptions(0.2))
SAMPLES_TOLD = 2
"""After the golden pair and the warm-up comes the first part of the samples."""
LONG = ProfileOptions(1, TimingOptions(60.0))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    before = os.environ["PATH"]
    with real_sshd.running(folder) as server:
        os.environ["PATH"] = f"{folder}/bin:{before}"
        yield server
        os.environ["PATH"] = before


@pytest.fixture
def there(sshd: Sshd, tmp_path: Path) -> SshLink:
    """With a temporary folder of its own, to see what stays in it."""
    return SshLink(
        f"{getpass.getuser()}@127.0.0.1", sshd.port, sys.executable, temporary=str(tmp_path)
    )


def silent(_step: str) -> None:
    pass


def test_a_bundle_is_measured_there_and_nothing_stays(
    there: SshLink, small: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    found = measure_over(there, open_bundle(small), QUICK, steps.append)
    assert found.golden is not None
    assert found.golden.passed
    assert found.incomplete == ""
    assert len(found.timing.latency.samples) >= 10
    assert found.opening is not None
    assert [one.memory for one in found.footprint.process] == ["recommended", "default"]
    assert any(kernel.macs for file in found.kernels for kernel in file.kernels)
    assert {"copying", "latency", "layers", "memory"} <= set(steps)
    assert list(tmp_path.iterdir()) == []


def test_a_runner_that_is_killed_leaves_its_samples_and_no_files(
    there: SshLink, small: Path, tmp_path: Path
) -> None:
    def kill_in_the_middle(step: str) -> None:
        if step == "latency" and told.count(step) == SAMPLES_TOLD:
            for process in Path("/proc").glob("[0-9]*"):
                if _is_runner(process, tmp_path):
                    os.kill(int(process.name), signal.SIGKILL)
        told.append(step)

    told: list[str] = []
    found = measure_over(there, open_bundle(small), LONG, kill_in_the_middle)
    assert "was killed" in found.incomplete
    assert len(found.timing.latency.samples) > 10
    assert found.to_json()["complete"] is False
    assert list(tmp_path.iterdir()) == []


def _is_runner(process: Path, below: Path) -> bool:
    try:
        is_there = (process / "cwd").resolve().is_relative_to(below)
        return (
            is_there and b"edgekit_runner.py" in (process / "cmdline").read_bytes().split(b"\0")[1]
        )
    except (OSError, IndexError):
        return False


def test_a_line_that_breaks_leaves_the_samples_until_then(
    sshd: Sshd, there: SshLink, small: Path, tmp_path: Path
) -> None:
    def break_in_the_middle(step: str) -> None:
        if step == "latency" and told.count(step) == SAMPLES_TOLD:
            sshd.break_connections()
        told.append(step)

    told: list[str] = []
    found = measure_over(there, open_bundle(small), LONG, break_in_the_middle)
    assert "connection was lost" in found.incomplete
    assert len(found.timing.latency.samples) > 10
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_names_the_device(
    sshd: Sshd, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}{sys.executable}"
    arguments = ["profile", str(small), "--device", device, "--threads", "1", "--seconds", "0.2"]
    assert run_command(arguments) == 0
    told = capsys.readouterr().out
    assert "golden" in told
    assert "GMAC/s" in told


def test_a_python_without_onnxruntime_is_named(there: SshLink, small: Path, tmp_path: Path) -> None:
    bare = SshLink(there.host, there.port, "/bin/false", str(tmp_path))
    with pytest.raises(MissingEnvironmentError, match="does not run onnxruntime"):
        measure_over(bare, open_bundle(small), QUICK, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_room_is_told_what_is_needed(
    there: SshLink, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SPARE_BYTES", 1 << 62)
    with pytest.raises(MissingEnvironmentError, match="make room there"):
        measure_over(there, open_bundle(small), QUICK, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_cannot_be_worked_in(there: SshLink, small: Path) -> None:
    nowhere = SshLink(there.host, there.port, there.python, "/nowhere")
    with pytest.raises(MissingEnvironmentError, match="no folder to work in"):
        measure_over(nowhere, open_bundle(small), QUICK, silent)


def test_what_the_runner_refuses_is_its_own_sentence(
    there: SshLink, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "runner_arguments", lambda *_: ["edgekit_runner.py", "./nothing"])
    with pytest.raises(UsageError, match="is no bundle"):
        measure_over(there, open_bundle(small), QUICK, silent)


def test_a_device_that_does_not_answer_is_one_sentence(small: Path, sshd: Sshd) -> None:
    away = SshLink("127.0.0.1", 1)
    with pytest.raises(LinkError, match="cannot be reached") as caught:
        measure_over(away, open_bundle(small), QUICK, silent)
    assert "refused" in str(caught.value)


@pytest.mark.parametrize("fault", ["raise MemoryError", "os.kill(os.getpid(), 9)"])
def test_a_model_that_does_not_fit_into_the_device_s_memory_is_one_sentence(
    there: SshLink, small: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch, fault: str,
) -> None:  # fmt: skip
    """As Python says it, and as a system does."""
    place = tmp_path_factory.mktemp("runner") / "edgekit_runner.py"
    text = remote.runner_file().read_text()
    assert "is_cold = forget_files(folder)" in text
    place.write_text(text.replace("is_cold = forget_files(folder)", fault))
    monkeypatch.setattr(remote, "runner_file", lambda: place)
    with pytest.raises(MissingEnvironmentError, match="more memory than the device has"):
        measure_over(there, open_bundle(small), QUICK, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_another_architecture_is_named(
    there: SshLink, small: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "python3"
    other.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf7\x00" + bytes(44))
    other.chmod(0o755)
    foreign = SshLink(there.host, there.port, str(other), str(tmp_path))
    with pytest.raises(MissingEnvironmentError, match=r"does not run onnxruntime \(.*python3"):
        measure_over(foreign, open_bundle(small), QUICK, silent)
    assert list(tmp_path.iterdir()) == []


def test_two_bundles_of_one_name_are_run_in_turns_there(
    there: SshLink,
    small: Path,
    tiled: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = tmp_path_factory.mktemp("other") / small.name
    shutil.copytree(tiled, other)
    found = compare_over(there, (open_bundle(small), open_bundle(other)), QUICK, silent)
    assert found.names == ("small", "small")
    assert len(found.ratios) >= 10
    assert found.ratio > 1  # four tiles
    assert [golden.passed for golden in found.goldens] == [True, True]
    assert found.incomplete == ""
    assert found.machine.runtime.startswith("onnxruntime")
    assert list(tmp_path.iterdir()) == []


def test_pairs_until_the_runner_was_killed_are_kept_and_marked(
    there: SshLink, small: Path, tiled: Path, tmp_path: Path
) -> None:
    def kill_after_some(step: str) -> None:
        if step == "pairs of runs":
            for process in Path("/proc").glob("[0-9]*"):
                if _is_runner(process, tmp_path):
                    os.kill(int(process.name), signal.SIGKILL)

    found = compare_over(there, (open_bundle(small), open_bundle(tiled)), LONG, kill_after_some)
    assert "was killed" in found.incomplete
    assert len(found.ratios) > 3
    assert "incomplete" in found.text()
    assert found.to_json()["complete"] is False


def test_a_provider_of_this_machine_is_measured_by_the_runner(small: Path, tmp_path: Path) -> None:
    here = HereLink(temporary=str(tmp_path))
    found = measure_over(here, open_bundle(small), QUICK, silent)
    assert found.golden is not None
    assert found.golden.passed
    assert list(tmp_path.iterdir()) == []
    unknown = ProfileOptions(1, TimingOptions(0.2), provider="QNNExecutionProvider")
    with pytest.raises(UsageError, match="has no QNNExecutionProvider"):
        measure_over(here, open_bundle(small), unknown, silent)


def test_two_bundles_are_no_package_and_nothing_for_the_perf_tool(small: Path) -> None:
    bundles = (open_bundle(small), open_bundle(small))
    with pytest.raises(UsageError, match="holds one bundle"):
        find_device("folder:package").compare(bundles, QUICK, silent)
    with pytest.raises(UsageError, match="one file after the other"):
        find_device("adb://x/data/onnxruntime_perf_test").compare(bundles, QUICK, silent)
