from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "split_serving.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_thousand_good_and_hostile_packets_on_sixteen_connections_lose_nothing_and_leak_nothing():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1000 packets on 16 connections, 0 lost" in done.stdout
    before, after = map(float, re.findall(r"([\d.]+) MiB (?:before|after)", done.stdout))
    assert after < before + 8, done.stdout
