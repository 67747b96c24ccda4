"""The page in a headless Chromium, on bundles of each kind: `edgekit serve` to its end."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_exports import write_recipe
from split_models import classifier, networks
from torch import nn
from web_page import browsed, built, served

import edgekit
from edgekit.bundle import Bundle, open_bundle
from edgekit.detection.detector import detector_of_bundle
from edgekit.plan.plan import read_plan
from edgekit.split.bundle import SplitBundle
from edgekit.split.server import Server
from edgekit.split_exporting import SplitOptions, export_split
from edgekit.target import find_target

TOLERANCE = 1e-5
SECONDS = 30
PLANNED_SHARE = 0.75
"""Of the planned factor that memory must fall by at least."""


@pytest.fixture(scope="module", autouse=True)
def page() -> Path:
    return built()


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where CI keeps the screenshots: outside of the repository."""
    kept = os.environ.get("EDGEKIT_ARTEFACTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def whole_and_tiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A restoration network, whole and in tiles; 16 channels of 384x384 are 9 MiB."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()]
    net, image = nn.Sequential(*layers, nn.Conv2d(16, 3, 3, 1, 1)), torch.rand(1, 3, 384, 384)
    folder = tmp_path_factory.mktemp("tiles")
    options: dict[str, Any] = {"verify": False, "simplify": False}
    whole = edgekit.export(net, (image,), output=folder / "whole", **options)
    return whole, edgekit.export(net, (image,), output=folder / "tiled", tiles="3x3", **options)


def array(told: dict[str, Any]) -> np.ndarray[Any, Any]:
    data = np.frombuffer(base64.b64decode(told["base64"]), told["dtype"])
    return data.reshape(told["shape"])


def activations(report: dict[str, Any]) -> int:
    """What runs added to the memory of open models, and the arrays of the loop over windows."""
    memory = report["memory_bytes"]
    grown = memory["wasm"]["touched_bytes"] - memory["wasm_before"]["touched_bytes"]
    return int(grown + memory["host_peak_bytes"])


def test_a_detector_passes_its_golden_pair_and_finds_the_boxes_that_python_finds(
    tmp_path: Path, artefacts: Path
) -> None:
    model = edgekit.load("leyolo-composites")
    options: dict[str, Any] = {"verify": False, "simplify": False}
    bundle = edgekit.export(model, output=tmp_path / "detector.bundle", **options)
    picture = tmp_path / "noise.png"
    random = np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(random).resize((640, 480), Image.Resampling.BICUBIC).save(picture)
    with served(bundle.path, "--input", str(picture)) as address:
        shot = str(artefacts / "web-detector.png")
        report = browsed(f"{address}?threads=1&seconds=0.5&score=0.02", "--screenshot", shot)
    assert report["problems"] == []
    assert report["golden"]["passed"]
    assert [row["name"] for row in report["golden"]["outputs"]] == ["boxes", "scores"]
    assert report["latency_ms"]["p90"] >= report["latency_ms"]["p50"] > 0
    assert report["first_result_ms"] > 0
    detector = detector_of_bundle(bundle)
    expected = detector(Image.open(picture).convert("RGB"), detector.thresholds_for(0.02))
    assert len(expected) > 0
    assert [one["label"] for one in report["found"]] == expected.labels.tolist()
    found = np.array([[*one["box"], one["score"]] for one in report["found"]])
    assert found[:, :4] == pytest.approx(expected.boxes, abs=0.5)
    assert found[:, 4] == pytest.approx(expected.scores, abs=1e-3)


def test_tiles_give_what_python_gives_and_take_the_planned_memory(
    whole_and_tiled: tuple[Bundle, Bundle], artefacts: Path
) -> None:
    whole, tiled = whole_and_tiled
    reports = []
    for bundle in (whole, tiled):
        with served(bundle.path) as address:
            shot = str(artefacts / f"web-{bundle.path.name}.png")
            report = browsed(f"{address}?threads=1&seconds=0", "--outputs", "--screenshot", shot)
        assert report["problems"] == []
        assert report["golden"]["passed"]
        reports.append(report)
    (expected,) = edgekit.run(tiled, next(iter(tiled.golden()[0].values())))
    found = array(next(iter(reports[1]["outputs"].values())))
    assert np.abs(found - expected).max() < TOLERANCE
    plan = read_plan(tiled.path)
    assert plan is not None
    planned = plan.whole_peak_bytes / plan.peak_bytes
    measured = activations(reports[0]) / activations(reports[1])
    assert measured > PLANNED_SHARE * planned


def test_a_decoder_s_video_stands_beside_the_reference(tmp_path: Path, artefacts: Path) -> None:
    model = edgekit.load(str(write_recipe(tmp_path)))
    bundle = edgekit.export(model, output=tmp_path / "b", verify=False, simplify=False)
    with served(bundle.path) as address:
        shot = str(artefacts / "web-video.png")
        report = browsed(f"{address}?threads=1&seconds=0", "--screenshot", shot)
    assert report["problems"] == []
    assert report["golden"]["passed"]
    assert report["said"].startswith("Frame 1 of 2, 24×16.")
    assert "reference" in report["said"]


def test_a_split_head_s_packet_is_answered_by_the_tail_s_server(
    tmp_path: Path, artefacts: Path
) -> None:
    options = SplitOptions(None, simplify=False)
    onnx, network = find_target("onnx"), networks()["entropy"]
    bundle, _ = export_split(classifier(), network, "bottleneck", onnx, tmp_path / "b", options)
    with (
        tail_server(bundle) as address,
        served(bundle.path, "--split", address) as page_address,
    ):
        shot = str(artefacts / "web-split.png")
        report = browsed(f"{page_address}?threads=1&seconds=0", "--screenshot", shot)
    assert report["problems"] == []
    assert report["link"]["answered_by"] == "server"
    names = [
        "head: symbols",
        "coder: golden packet",
        "tail: output",
        "both: output",
        "link: output",
    ]
    assert [row["name"] for row in report["golden"]["outputs"]] == names
    assert report["golden"]["passed"]
    assert report["link"]["packet_bytes"] == len((bundle.path / "golden.packet").read_bytes())


def test_without_the_tail_s_server_the_page_says_so_and_answers_by_itself(
    tmp_path: Path,
) -> None:
    options = SplitOptions(None, simplify=False)
    onnx, network = find_target("onnx"), networks()["dynamic"]
    bundle, _ = export_split(classifier(), network, "first", onnx, tmp_path / "b", options)
    with served(bundle.path, "--split", "127.0.0.1:1") as address:
        report = browsed(f"{address}?threads=1&seconds=0")
    assert report["link"]["answered_by"] == "here"
    assert "127.0.0.1:1 cannot be reached" in report["link"]["why"]
    assert not report["golden"]["passed"]


@contextmanager
def tail_server(bundle: Bundle) -> Iterator[str]:
    """HOST:PORT of a server of the bundle's tail, on a thread of its own."""
    server = Server(SplitBundle(open_bundle(bundle.path)).tail())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(SECONDS)

    try:
        yield f"127.0.0.1:{run(server.start('127.0.0.1', 0))}"
    finally:
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
