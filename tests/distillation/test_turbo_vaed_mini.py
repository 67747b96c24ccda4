from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_clips_in_memory import write_video
from torch import nn

from edgekit.data_folder import data_folder
from edgekit.distillation import Hardware, taef2
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.loop import Distilled, distill
from edgekit.distillation.lpips import layers
from edgekit.distillation.turbo_vaed_mini import (
    HALF,
    LATENT,
    QUARTER,
    Clips,
    Numbers,
    new_student,
    numbers_of,
    recorded,
    stages_of,
    teacher_features,
    train,
    whole,
)
from edgekit.errors import UsageError


def clips(count: int, frames: int) -> Clips:
    generator = torch.Generator().manual_seed(0)
    size = (count, frames, 3, 32, 32)
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    return Clips(pixels, torch.randn(count, frames, 32, 4, 4, generator=generator).half(), {})


@pytest.fixture
def teacher() -> nn.Sequential:
    torch.manual_seed(1)
    return taef2.decoder().eval().requires_grad_(False)


@pytest.fixture
def pictures(teacher: nn.Sequential) -> Clips:
    plain = clips(6, 1)
    return replace(plain, features=teacher_features(plain, teacher))


def short(steps: int = 2) -> Numbers:
    numbers = numbers_of()
    stages = {name: replace(one, steps=steps) for name, one in numbers.stages.items()}
    return replace(numbers, stages=stages)


def short_run(pictures: Clips, run: Path, steps: int = 2, **options: Any) -> Distilled:
    stages = stages_of(short(steps), clips(3, 2))
    return distill(new_student(0), recorded, pictures, stages, run=run, **options)


def test_an_item_holds_latents_and_pixels_of_one_clip(pictures: Clips) -> None:
    moving = clips(3, 2)
    assert (pictures.frames, moving.frames, len(moving)) == (1, 2, 3)
    item = moving[1]
    torch.testing.assert_close(item["latent"].transpose(0, 1), moving.latents[1])
    torch.testing.assert_close(item["pixels"], moving.pixels[1])
    assert pictures[0].keys() == {"latent", "pixels", "trunk", "quarter", "half"}


def test_features_of_the_teacher_continue_to_its_own_pictures(
    teacher: nn.Sequential, pictures: Clips
) -> None:
    expected = teacher(pictures.latents[:, 0].float())
    for name, done in (("trunk", LATENT), ("quarter", QUARTER), ("half", HALF)):
        kept = pictures.features[name].float()
        torch.testing.assert_close(teacher[done:](kept), expected, rtol=1e-2, atol=1e-2)


def test_convolutions_across_time_start_as_identity() -> None:
    student = new_student(0).module.eval().requires_grad_(False)
    features = torch.randn(6, 64, 3, 3)
    torch.testing.assert_close(student.across_time(features, batch=2), features)


def test_each_stage_moves_its_part_and_nothing_else(pictures: Clips, tmp_path: Path) -> None:
    short_run(pictures, tmp_path)
    before = new_student(0).module.state_dict()
    parts = {
        "trunk": ("conv_in.", "trunk."),
        "upper": ("up4.", "up2.", "paint8.", "paint4.", "paint2."),
        "joined": ("conv_in.", "trunk.", "up4.", "up2.", "paint8.", "paint4.", "paint2."),
        "in-time": ("time.",),
    }
    for stage, moved in parts.items():
        after = load_file(tmp_path / f"after-{stage}.safetensors")
        for name, value in after.items():
            if not name.startswith(moved):
                assert torch.equal(value, before[name]), (stage, name)
        changed = {part for part in moved for n in after if n.startswith(part)
                   and not torch.equal(after[n], before[n])}  # fmt: skip
        assert changed == set(moved), stage
        before = after


def test_projections_train_and_are_not_shipped(pictures: Clips, tmp_path: Path) -> None:
    own = new_student(0)
    start = {name: p.clone() for name, p in own.projections["half"].named_parameters()}
    model, _ = distill(own, recorded, pictures, stages_of(short(), clips(3, 2))[1:], run=tmp_path)
    assert not torch.equal(start["weight"], own.projections["half"].weight)
    assert not any("projection" in name for name in model.module.state_dict())


def test_the_student_s_output_is_pictures_of_all_frames() -> None:
    student = new_student(0).module.eval()
    batch = {"latent": torch.randn(2, 32, 3, 4, 4)}
    with torch.no_grad():
        assert whole(student, batch).shape == (6, 3, 32, 32)


def test_steps_are_shared_as_the_recipe_has_them() -> None:
    whole_run = numbers_of()
    total = sum(stage.steps for stage in whole_run.stages.values())
    half = whole_run.scaled_to(total // 2)
    for name, stage in half.stages.items():
        before = whole_run.stages[name]
        assert stage.steps == pytest.approx(before.steps / 2, abs=1)
        assert stage.warmup == before.warmup / 2
        assert 1 - stage.ema == pytest.approx(2 * (1 - before.ema))
    shortest = whole_run.scaled_to(1).stages.values()
    assert [(stage.steps, stage.warmup, stage.ema) for stage in shortest] == [(1, 1, 0.0)] * 4
    assert whole_run.scaled_to(total) == whole_run


def test_batches_grow_to_what_processes_can_share() -> None:
    sizes = {name: one.batch_size for name, one in numbers_of().stages.items()}
    shared = numbers_of().shared_by(4).stages
    for name, size in sizes.items():
        assert shared[name].batch_size % 4 == 0
        assert size <= shared[name].batch_size < size + 4
    assert numbers_of().shared_by(1) == numbers_of()


def test_numbers_of_the_users_own_take_the_recipes_place(tmp_path: Path) -> None:
    text = (data_folder("models") / "distillation" / "turbo-vaed-mini.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(text.replace("steps = 9000", "steps = 9"))
    assert numbers_of(own).stages["joined"].steps == 9
    own.write_text(text.replace("[stages.upper]", "[stages.lower]"))
    with pytest.raises(UsageError, match=r"own\.toml has the stages .*lower.* has trunk, upper"):
        numbers_of(own)
    own.write_text(text.replace("steps = 9000", 'steps = "many"'))
    with pytest.raises(UsageError, match=r"'stages\.joined\.steps' is 'many' and must be of type"):
        numbers_of(own)
    own.write_text(text.replace("features = 0.3", "feature = 0.3"))
    with pytest.raises(UsageError, match=r"'weights\.feature' is unknown"):
        numbers_of(own)
    own.write_text("data = 3\n" + text[text.index("[weights]") :])
    with pytest.raises(UsageError, match="'data' is 3 and must be a table"):
        numbers_of(own)


@pytest.fixture
def asked(tmp_path: Path, teacher: nn.Sequential) -> FromFiles:
    """Two videos and a teacher of random weights."""
    folder = tmp_path / "taef2"
    folder.mkdir()
    torch.save(taef2.encoder().state_dict(), folder / "taef2_encoder.pth")
    torch.save(teacher.state_dict(), folder / "taef2_decoder.pth")
    noise = np.random.default_rng(0).integers(0, 200, (1, 40, 48, 3))
    frames = (noise + np.arange(12).reshape(-1, 1, 1, 1)).astype(np.uint8)
    (tmp_path / "clips").mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / "clips" / name, frames)
    return FromFiles(
        tmp_path / "clips", folder, tmp_path / "run", lambda _line: None, Hardware("cpu"), steps=4,
        workers=0,
    )  # fmt: skip


@pytest.fixture
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.distillation import turbo_vaed_mini

    numbers = numbers_of()
    small = replace(numbers, data=replace(numbers.data, pictures=4, clips=4, size_px=32))
    monkeypatch.setattr(turbo_vaed_mini, "numbers_of", lambda _file: small)


def test_a_folder_of_videos_becomes_a_student(asked: FromFiles, small_numbers: None) -> None:
    alexnet = asked.data.parent / "alexnet.pth"
    torch.save({f"features.{k}": v for k, v in layers("alex").state_dict().items()}, alexnet)
    model, run = train(replace(asked, validation=asked.data, lpips=alexnet))
    assert model.name == "turbo-vaed-mini"
    assert model.weights.startswith("student.safetensors")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [line["validation"] for line in lines if "validation" in line]
    assert measured[-1].keys() == {
        "psnr_db", "ssim", "lpips", "paper_psnr_db", "paper_ssim", "paper_lpips",
    }  # fmt: skip
    saved = load_file(run / "student.safetensors")
    assert all(torch.equal(saved[k], v) for k, v in model.module.state_dict().items())


def test_what_the_teacher_computed_is_kept_and_not_taken_for_another_s(
    asked: FromFiles, small_numbers: None
) -> None:
    train(asked)
    (asked.teacher / "taef2_decoder.pth").unlink()
    again = train(replace(asked, resume=True))  # without the teacher
    assert again.folder == asked.run
    with pytest.raises(
        UsageError, match=r"lesson\.pt was made from clips, .*seed 0, and .*seed 1 was"
    ):
        train(replace(asked, seed=1, resume=True))


def test_a_missing_teacher_or_video_is_named(asked: FromFiles, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"taef2_encoder\.pth; --teacher is the folder"):
        train(replace(asked, teacher=tmp_path))
    with pytest.raises(UsageError, match="give them \\(--validation\\)"):
        train(replace(asked, lpips=tmp_path / "alexnet.pth"))
    with pytest.raises(UsageError, match="There is no video file or folder"):
        train(replace(asked, data=tmp_path / "none"))
    with pytest.raises(UsageError, match=r"has no videos: no file ends in \.avi"):
        train(replace(asked, data=asked.teacher))
    (asked.data / "c.mp4").write_text("no video")
    with pytest.raises(UsageError, match=r"c\.mp4 cannot be read as a video"):
        train(asked)
