"""The report as one HTML file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run_command
from edgekit.errors import MissingEnvironmentError
from edgekit.profiling.page import page, write_page
from edgekit.profiling.report_file import parse_report
from edgekit.profiling.result import Profile

VOID = {"meta", "link", "line", "rect", "circle", "polyline", "br"}
HOSTILE = '<script>alert(1)</script>&"'


def profile(kernels: int = 3, name: str = "model.conv", **fields: Any) -> Profile:
    layer = {
        "name": name, "operator": "Conv", "provider": "CPUExecutionProvider", "inputs": [[1, 16, 8, 8], [16, 16, 3, 3]],
        "outputs": [[1, 16, 8, 8]], "element_type": "float", "p50_ms": 0.2, "p90_ms": 0.3, "parameter_bytes": 9216,
        "read_bytes": 4096, "written_bytes": 4096, "live_bytes": 8192,
    }  # fmt: skip
    report = {
        "schema": 1, "bundle": name, "files": {"f.onnx": "0" * 64}, "disk_bytes": 9216,
        "device": {"processor": name, "architecture": "arm64", "system": "Linux", "cpus": 4, "runtime": "onnxruntime", "threads": 1},
        "latency_ms": {"samples": [1.0 + n % 7 / 10 for n in range(3000)]},
        "roofline": {"gmacs_per_s": 10.0, "gbytes_per_s": 5.0},
        "memory_bytes": {"process": [{"memory": "recommended", "load_peak_bytes": 5, "loaded_bytes": 4, "run_peak_bytes": 3, "kept_bytes": 2}], "runtime_peak": 8192},
        "layers": [{"file": "f.onnx", "runs": 1, "whole_ms": 1.0, "kernels": [layer] * kernels}],
    }  # fmt: skip
    return parse_report(json.dumps(report | fields), "r.json")


class Tags(HTMLParser):
    """Fails on a tag that is closed wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_it_needs_no_network_and_no_script() -> None:
    text = page(profile())
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert set(re.findall(r'href="([^"]*)"', text)) == {"data:,"}


def test_it_has_every_part_of_the_profile() -> None:
    text = page(profile())
    for part in (
        "Latency",
        "roofline",
        "memory over a run of f.onnx",
        "Layers",
        "model.conv",
        "recommended",
    ):
        assert part in text
    assert page(profile(layers=[], roofline=None, memory_bytes=None))


def test_a_plan_s_files_stand_with_their_runs() -> None:
    layers = [
        {"file": f"stage{n}.onnx", "runs": 4, "whole_ms": 1.0, "kernels": []} for n in range(2)
    ]
    text = page(profile(layers=layers, files={layer["file"]: "0" for layer in layers}))
    assert "<h2>Plan</h2>" in text
    assert "stage1.onnx" in text
    assert "<h2>Plan</h2>" not in page(profile())


def test_names_from_a_device_are_text_and_nothing_else() -> None:
    text = page(profile(name=HOSTILE))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_five_hundred_layers_are_a_small_page_at_once() -> None:
    found = profile(500)
    started = time.process_time()
    text = page(found)
    assert time.process_time() - started < 1
    assert len(text.encode()) < 2 << 20


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingEnvironmentError, match="cannot be written"):
        write_page(profile(), tmp_path / "none" / "report.html")


def test_a_device_s_report_becomes_a_page(tmp_path: Path) -> None:
    file, made = tmp_path / "report.json", tmp_path / "report.html"
    file.write_text(json.dumps(profile().to_json()))
    assert run_command(["profile", "--from", str(file), "--html", str(made)]) == 0
    assert "model.conv" in made.read_text()


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="there is no chromium here (apt install chromium)"
)
def test_a_real_browser_draws_it(tmp_path: Path) -> None:
    write_page(profile(500), tmp_path / "report.html")
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path}/user",
         (tmp_path / "report.html").as_uri()], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout.count("<tr>") > 500
    assert 'class="dot"' in done.stdout
