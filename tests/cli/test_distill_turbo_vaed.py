"""`edgekit distill` for Turbo-VAED: options of its own, and what it says to someone who errs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import Command

pytest.importorskip("av", reason="PyAV is in the extra 'train'")
pytest.importorskip("diffusers", reason="diffusers is in the extra 'teachers'")

from tiny_teachers import NUMBERS, STUDENT, brightening, ltx, write_video


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ltx().save_pretrained(tmp_path / "ltx")
    write_video(tmp_path / "clips" / "a.mkv", brightening(20))
    (tmp_path / "tiny.toml").write_text(STUDENT)
    (tmp_path / "numbers.toml").write_text(NUMBERS)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def words(*more: str) -> list[str]:
    return ["distill", "tiny.toml", "--data", "clips", "--teacher", "ltx", "--numbers", "numbers.toml",
            "--workers", "0", "--accelerator", "cpu", "-o", "run", *more]  # fmt: skip


def test_a_student_is_distilled_and_damaged_videos_are_told(edgekit: Command, folder: Path) -> None:
    (folder / "clips" / "broken.mp4").write_text("no film")
    refused = edgekit(*words("--steps", "2"))
    assert refused.code == 2
    assert refused.out == ""
    assert "1 of 2 files cannot be used: clips/broken.mp4" in refused.err
    found = edgekit(*words("--steps", "2", "--skip-damaged", "--json"))
    assert found.code == 0, found.err
    assert "left out 1 files: clips/broken.mp4" in found.err
    report = found.json()
    assert report["stages"] == {"reconstruction": 1, "adversarial": 1}
    assert (folder / "run" / "student.safetensors").is_file()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frames = 9", "frames = 10", "has 10 frames, and this teacher takes 8·n + 1"),
        (
            "size_px = 64",
            "size_px = 72",
            "size_px is 72; a latent covers 32 pixels, so take a multiple",
        ),
    ],
)
def test_clips_that_are_no_whole_latents_are_refused(
    edgekit: Command, folder: Path, old: str, new: str, message: str
) -> None:
    plain = NUMBERS.replace("initialise_from_teacher = true", "initialise_from_teacher = false")
    (folder / "numbers.toml").write_text(plain.replace(old, new))
    found = edgekit(*words())
    assert found.code == 2
    assert found.is_one_sentence()
    assert message in found.err


def test_a_model_without_a_recipe_names_those_with_one(edgekit: Command, folder: Path) -> None:
    found = edgekit("distill", "mobilenet-v2", "--data", "clips")
    assert found.code == 2
    assert "no recipe to train 'mobilenet-v2'" in found.err
    assert "turbo-vaed-mini, turbo-vaed, leyolo" in found.err


@pytest.mark.parametrize(
    ("model", "option", "families"),
    [
        ("turbo-vaed-mini", ("--skip-damaged",), "turbo-vaed, leyolo"),
        ("turbo-vaed-mini", ("--perceptual", "vgg.pth"), "turbo-vaed."),
        ("turbo-vaed-ltx", ("--initial", "w.safetensors"), "leyolo, mobiledet, codenet."),
        ("leyolo-nano", ("--teacher", "taef2"), "turbo-vaed-mini, turbo-vaed, split."),
        ("leyolo-nano", ("--lpips", "alex.pth"), "turbo-vaed-mini, turbo-vaed."),
        ("mobilenet-v2-split", ("--look-alikes", "cats"), "leyolo, mobiledet, codenet."),
    ],
)
def test_options_that_a_recipe_does_not_take_are_refused(
    edgekit: Command, folder: Path, model: str, option: tuple[str, ...], families: str
) -> None:
    found = edgekit("distill", model, "--data", "clips", *option)
    assert (found.code, found.is_one_sentence()) == (2, True), found
    assert f"{model} takes no {option[0]}; leave it out" in found.err
    assert f"belongs to the families {families}" in found.err
