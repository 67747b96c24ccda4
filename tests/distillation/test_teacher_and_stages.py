from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import shared_or_skip
from torch import nn

from edgekit.distillation import taef2
from edgekit.distillation.turbo_vaed_mini import (
    HALF,
    LATENT,
    QUARTER,
    TRUNK,
    UPPER,
    Apprentice,
    Clips,
    Lesson,
    LessonOptions,
    StepCounts,
    distil,
    prepare_lesson,
    teacher_features,
)
from edgekit.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "taef2.npz"


def test_the_teacher_equals_the_official_encoder_and_decoder() -> None:
    folder = shared_or_skip("assets/taef2")
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    encoder = taef2.load(taef2.encoder(), folder / "taef2_encoder.pth")
    decoder = taef2.load(taef2.decoder(), folder / "taef2_decoder.pth")
    with torch.no_grad():
        latent, picture = encoder(golden["image"]), decoder(golden["latent"])
    torch.testing.assert_close(latent, golden["latent"], rtol=0, atol=1e-4)
    torch.testing.assert_close(picture, golden["reconstruction"], rtol=0, atol=1e-4)


def clips(count: int, frames: int) -> Clips:
    generator = torch.Generator().manual_seed(0)
    size = (count, frames, 3, 64, 64)
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    return Clips(pixels, torch.randn(count, frames, 32, 8, 8, generator=generator).half())


@pytest.fixture
def teacher() -> nn.Sequential:
    torch.manual_seed(1)
    return taef2.decoder().eval().requires_grad_(False)


@pytest.fixture
def lesson(teacher: nn.Sequential) -> Lesson:
    pictures = clips(6, 1)
    return Lesson(pictures, clips(3, 5), teacher_features(pictures, teacher))


def test_drawn_latents_and_frames_belong_together() -> None:
    source = clips(3, 2)
    for seed in range(5):
        chosen, latents, frames = source.draw(2, torch.Generator().manual_seed(seed))
        assert latents.shape == (2, 32, 2, 8, 8)
        for place, clip in enumerate(chosen.tolist()):
            torch.testing.assert_close(latents[place].transpose(0, 1), source.latents[clip].float())
            own = frames.unflatten(0, (2, 2))[place]
            torch.testing.assert_close(own, source.pixels[clip].float() / 255)


def test_the_same_generator_draws_the_same_clips() -> None:
    source = clips(3, 2)
    first, again = (source.draw(2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(map(torch.equal, first, again))


def test_features_of_the_teacher_continue_to_its_own_pictures(teacher: nn.Sequential) -> None:
    pictures = clips(3, 1)
    features = teacher_features(pictures, teacher)
    expected = teacher(pictures.latents[:, 0].float())
    for kept, done in (
        (features.latent, LATENT),
        (features.quarter, QUARTER),
        (features.half, HALF),
    ):
        torch.testing.assert_close(teacher[done:](kept.float()), expected, rtol=1e-2, atol=1e-2)


def test_convolutions_across_time_start_as_identity() -> None:
    torch.manual_seed(0)
    student = Apprentice().student.eval().requires_grad_(False)
    features = torch.randn(6, 64, 3, 3)
    torch.testing.assert_close(student.across_time(features, batch=2), features)


@pytest.mark.parametrize(
    ("stage", "trains"),
    [
        ("trunk", TRUNK),
        ("upper", UPPER),
        ("joined", (*TRUNK, *UPPER)),
        ("in_time", ("student.time",)),
    ],
)
def test_every_stage_reaches_what_it_trains(
    lesson: Lesson, stage: str, trains: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = Apprentice()
    losses = getattr(lesson, stage)(model, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(term) for term in losses.values())
    sum(losses.values()).backward()
    for part in trains:
        gradients = [value.grad for value in model.get_submodule(part).parameters()]
        assert all(gradient is not None for gradient in gradients), part


def test_halves_trained_alone_are_the_halves_of_the_whole(tmp_path: Path, lesson: Lesson) -> None:
    """Two processes may train them at once; one that trains both in turn ends with the same bits."""
    steps = StepCounts(trunk=2, upper=2, joined=1, in_time=1)
    for half in ("upper", "trunk"):
        distil(lesson, steps, tmp_path / "apart", seed=0, part=half)
    apart = distil(lesson, steps, tmp_path / "apart", seed=0)
    at_once = distil(lesson, steps, tmp_path / "at-once", seed=0)
    assert apart is not None
    assert at_once is not None
    for name, value in apart.state_dict().items():
        assert torch.equal(value, at_once.state_dict()[name]), name


def test_the_whole_begins_with_both_trained_halves(tmp_path: Path, lesson: Lesson) -> None:
    steps = StepCounts(trunk=3, upper=3, joined=0, in_time=0)
    student = distil(lesson, steps, tmp_path, seed=0)
    assert student is not None
    for half, parts in (("trunk", TRUNK), ("upper", UPPER)):
        saved = torch.load(tmp_path / half / "checkpoint.pt", weights_only=True)["average"]
        names = [n for n in saved if n.startswith(parts) and n.startswith("student.")]
        assert names
        for name in names:
            own = student.state_dict()[name.removeprefix("student.")]
            assert torch.equal(own, saved[name]), name


def test_a_lesson_is_not_taken_for_one_of_other_options(tmp_path: Path) -> None:
    cache = tmp_path / "lesson.pt"
    torch.save({"made_from": f"bbb.mp4, {LessonOptions(seed=1)}", "parts": []}, cache)
    with pytest.raises(UsageError, match=r"seed=1.* and .*seed=0.* was asked for"):
        prepare_lesson(tmp_path, Path("bbb.mp4"), LessonOptions(), cache)


def test_a_missing_teacher_or_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"taef2_encoder\.pth"):
        prepare_lesson(tmp_path, Path("bbb.mp4"), LessonOptions(), tmp_path / "lesson.pt")
