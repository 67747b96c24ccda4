"""Bundles measured through the real adb client and server, whose device is scripted."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_adbd
import pytest
from fake_adbd import FakeDevice

from edgekit.bundle import open_bundle
from edgekit.errors import LinkError, MissingEnvironmentError
from edgekit.profiling.devices.adb import AdbLink
from edgekit.profiling.devices.device import Remote
from edgekit.profiling.devices.remote import measure_over
from edgekit.profiling.of_bundle import ProfileOptions
from edgekit.profiling.timing import TimingOptions

pytestmark = pytest.mark.skipif(
    shutil.which("adb") is None, reason="there is no adb here (apt install adb)"
)
QUICK = ProfileOptions(1, TimingOptions(0.2))
CLEANED_WITHIN_S = 30
LONG = ProfileOptions(1, TimingOptions(60.0))
SAMPLES_TOLD = 2
"""After the golden pair and the warm-up comes the first part of the samples."""


@pytest.fixture(scope="module")
def device() -> Iterator[FakeDevice]:
    with fake_adbd.running(dict(os.environ)) as found:
        yield found


@pytest.fixture
def there(device: FakeDevice, tmp_path: Path) -> AdbLink:
    return AdbLink(device.serial, sys.executable, str(tmp_path))


def silent(_step: str) -> None:
    pass


def test_a_bundle_is_measured_there_and_nothing_stays(
    there: AdbLink, small: Path, tmp_path: Path
) -> None:
    found = measure_over(there, open_bundle(small), QUICK, silent)
    assert found.golden is not None
    assert found.golden.passed
    assert found.incomplete == ""
    assert len(found.footprint.process) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_unplugged_leaves_the_samples_until_then(
    device: FakeDevice, there: AdbLink, small: Path, tmp_path: Path
) -> None:
    def unplug_in_the_middle(step: str) -> None:
        if step == "latency" and told.count(step) == SAMPLES_TOLD:
            device.unplug()
        told.append(step)

    told: list[str] = []
    found = measure_over(there, open_bundle(small), LONG, unplug_in_the_middle)
    assert found.incomplete
    assert len(found.timing.latency.samples) > 10
    end = time.monotonic() + CLEANED_WITHIN_S
    while list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_python_is_told_what_it_needs(
    there: AdbLink, small: Path, tmp_path: Path
) -> None:
    bare = AdbLink(there.serial, "/bin/false", str(tmp_path))
    with pytest.raises(MissingEnvironmentError, match="does not run onnxruntime"):
        measure_over(bare, open_bundle(small), QUICK, silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("serial", ["127.0.0.1:1", "emulator-9999"])
def test_a_device_that_is_not_there_is_one_sentence(
    device: FakeDevice, small: Path, serial: str
) -> None:
    with pytest.raises((LinkError, MissingEnvironmentError), match="cannot be reached"):
        measure_over(AdbLink(serial), open_bundle(small), QUICK, silent)


PERF_TOOL = """#!/bin/sh
# Says what it was asked on stderr and appends what onnxruntime_perf_test does: model, seconds, bytes, share, run.
echo "$@" >&2
for last; do :; done
for run in 0 1 2; do echo "sequential.onnx,0.00${run}5,1000,50,$run" >> "$last"; done
"""


def test_onnxruntime_s_own_tool_measures_where_there_is_no_python(
    there: AdbLink, small: Path, tmp_path: Path
) -> None:
    tool = tmp_path / "onnxruntime_perf_test"
    tool.write_text(PERF_TOOL)
    tool.chmod(0o755)
    device = Remote(AdbLink(there.serial, str(tool), str(tmp_path)))
    found = device.measure(open_bundle(small), QUICK, silent)
    assert found.timing.latency.samples == pytest.approx((0.5, 1.5, 2.5))
    assert found.golden is None
    assert [path.name for path in tmp_path.iterdir()] == [tool.name]
