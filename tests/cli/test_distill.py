"""`edgekit distill`: a folder of videos to a student's weights, with random teachers on tiny pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command

pytest.importorskip("av")

import av

from edgekit.distillation import taef2, turbo_vaed_mini

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with clips/ and taef2/."""
    (tmp_path / "taef2").mkdir()
    torch.manual_seed(0)
    for part, network in (("encoder", taef2.encoder()), ("decoder", taef2.decoder())):
        torch.save(network.state_dict(), tmp_path / "taef2" / f"taef2_{part}.pth")
    (tmp_path / "clips").mkdir()
    noise = np.random.default_rng(0).integers(0, 200, (1, 40, 48, 3))
    with av.open(str(tmp_path / "clips" / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = 40, 48, "bgr0"
        for brighter in range(10):
            picture = (noise[0] + brighter).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    numbers = turbo_vaed_mini.numbers_of()
    small = replace(numbers, data=replace(numbers.data, pictures=2, clips=2, size_px=32))
    monkeypatch.setattr(turbo_vaed_mini, "numbers_of", lambda _file: small)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_run_is_begun_and_its_result_exports(edgekit: Command, folder: Path) -> None:
    found = edgekit("distill", "turbo-vaed-mini", "--data", "clips", "--steps", "4", "--workers", "0",
                    "--validation", "clips", "--json")  # fmt: skip
    assert found.code == 0, found.err
    report = found.json()
    assert report["model"] == "turbo-vaed-mini"
    assert report["steps"] == sum(report["stages"].values())
    assert report["stages"].keys() == {"trunk", "upper", "joined", "in-time"}
    assert report["validation"].keys() == {"psnr_db", "ssim", "paper_psnr_db", "paper_ssim"}
    assert report["frames_per_second"] > 0
    assert 0 <= report["data_wait"] <= 1
    assert report["peak_memory_bytes"] > 100 << 20
    assert "frames/s" in found.err
    assert edgekit("info", "turbo-vaed-mini").code == 0
    exported = edgekit("export", "turbo-vaed-mini", "--weights", report["weights"], "--target", "onnx",
                       "--size", "64x64", "--frames", "2", "-o", "b.bundle")  # fmt: skip
    assert exported.code == 0, exported.err


def test_resume_begins_goes_on_and_is_asked_for(edgekit: Command, folder: Path) -> None:
    words = ("distill", "turbo-vaed-mini", "--data", "clips", "--workers", "0", "--steps", "4")
    first = edgekit(*words, "--resume")
    assert first.code == 0, first.err
    assert "export it with: edgekit export turbo-vaed-mini --weights" in first.out
    again = edgekit(*words)
    assert again.code == 2
    assert "holds a run; resume it" in again.err
    other = edgekit(*words[:-1], "40", "--resume")
    assert other.code == 2
    assert "holds a run of another recipe: stages[0].steps is" in other.err
    assert edgekit(*words, "--resume").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "nothing"), "There is no video file or folder nothing"),
        (("--data", "clips", "--teacher", "none"), "--teacher is the folder"),
        (("--data", "clips", "--steps", "0"), "--steps is 0"),
        (("--data", "clips", "--workers", "-1"), "--workers is -1"),
        (("--data", "clips", "--precision", "fp8"), "no precision 'fp8'; there are 32-true"),
        (("--data", "clips", "--accelerator", "tpu9"), "tpu9"),
        (("--data", "clips", "--strategy", "magic"), "magic"),
        ((), "Missing option '--data'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    edgekit: Command, folder: Path, words: tuple[str, ...], said: str
) -> None:
    found = edgekit("distill", "turbo-vaed-mini", *words)
    assert found.code == 2
    assert said in found.err
    assert found.out == ""


def test_a_model_without_a_recipe_is_told_from_one_that_does_not_exist(
    edgekit: Command, folder: Path
) -> None:
    found = edgekit("distill", "mobilenet-v2", "--data", "clips")
    assert found.code == 2
    assert "no recipe to train 'mobilenet-v2'" in found.err
    unknown = edgekit("distill", "turbo-vaed-mimi", "--data", "clips")
    assert "did you mean 'turbo-vaed-mini'" in unknown.err


def test_without_the_extra_it_is_said_how_to_install_it(
    edgekit: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "av" else found(name, *more),
    )
    result = edgekit("distill", "turbo-vaed-mini", "--data", "clips")
    assert result.code == 4
    assert "needs av; install it with: pip install 'edgekit-vision[train]'" in result.err


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_saves_and_says_how_to_go_on(folder: Path) -> None:
    """The real program, whose numbers are not made small: stopped as soon as it trains."""
    words = ["distill", "turbo-vaed-mini", "--data", "clips", "--workers", "0", "-o", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "run" / "versions.json").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "of stage 'trunk', and saved to run; the same with resume=True (--resume)" in said
    assert (folder / "run" / "newest.pt").exists()
