"""The Turbo-VAED recipe from files to an exported student, with diffusers' LTX autoencoder, made narrow."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("av", reason="PyAV is in the extra 'train'")
pytest.importorskip("diffusers", reason="diffusers is in the extra 'teachers'")

import tiny_teachers
from tiny_teachers import NUMBERS, STUDENT, brightening, ltx, write_video

from edgekit.distillation import latents, turbo_vaed
from edgekit.distillation.from_files import FromFiles, recipe_named
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.loop import Distilled, silent
from edgekit.distillation.teachers import load_teacher
from edgekit.distillation.turbo_vaed_numbers import numbers_of
from edgekit.errors import StoppedError, UsageError
from edgekit.recipe import find_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/, ltx/, tiny.toml, numbers.toml"""
    made = tmp_path_factory.mktemp("recipe")
    ltx().save_pretrained(made / "ltx")
    write_video(made / "clips" / "a.mkv", brightening(40))
    (made / "tiny.toml").write_text(STUDENT)
    (made / "numbers.toml").write_text(NUMBERS)
    return made


def run(folder: Path, name: str, **changes: Any) -> Distilled:
    given: dict[str, Any] = {
        "data": folder / "clips", "teacher": folder / "ltx", "run": folder / name, "progress": silent,
        "hardware": Hardware("cpu"), "workers": 0, "model": str(folder / "tiny.toml"),
        "numbers": folder / "numbers.toml",
    }  # fmt: skip
    return turbo_vaed.train(FromFiles(**{**given, **changes}))


def records(distilled: Distilled) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (distilled.folder / "metrics.jsonl").open()]


@pytest.fixture(scope="module")
def unstopped(folder: Path) -> Distilled:
    torch.set_num_threads(1)
    return run(folder, "unstopped", validation=folder / "clips")


def test_both_stages_train_and_every_loss_is_finite(folder: Path, unstopped: Distilled) -> None:
    trained = {record["stage"]: record for record in records(unstopped) if "losses" in record}
    terms = ["pixel", "perceptual", "mid_features", "up1_features"]
    assert list(trained["reconstruction"]["losses"]) == terms
    assert list(trained["adversarial"]["losses"]) == [*terms, "adversarial", "critic"]
    values = [value for record in trained.values() for value in record["losses"].values()]
    assert torch.tensor(values).isfinite().all()
    assert trained["adversarial"]["weights"]["adversarial"] > 0


def test_the_validation_measures_both_protocols(unstopped: Distilled) -> None:
    measured = [one["validation"] for one in records(unstopped) if "validation" in one][-1]
    assert set(measured) == {"psnr_db", "ssim", "paper_psnr_db", "paper_ssim"}


def test_the_student_exports_and_agrees_with_its_file(tmp_path: Path, unstopped: Distilled) -> None:
    from edgekit import export

    bundle = export(unstopped.model, target="onnx", output=tmp_path / "tiny.bundle")
    assert bundle.path.is_dir()


def stopping_at(line: str) -> Callable[[str], None]:
    def progress(found: str) -> None:
        if found.startswith(line):
            signal.raise_signal(signal.SIGINT)

    return progress


@pytest.mark.parametrize("stage", ["reconstruction", "adversarial"])
def test_a_run_stopped_in_either_stage_resumes_to_the_same_bits(
    folder: Path, unstopped: Distilled, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill = turbo_vaed.distill
    monkeypatch.setattr(
        turbo_vaed, "distill", lambda *given, **how: distill(*given, **how, log_every=1)
    )
    with pytest.raises(StoppedError, match=f"after step 2 of . of stage '{stage}'"):
        run(folder, stage, validation=folder / "clips", progress=stopping_at(f"{stage} 1/"))
    resumed = run(folder, stage, validation=folder / "clips", resume=True)
    expected = unstopped.model.module.state_dict()
    for name, value in resumed.model.module.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_latents_are_encoded_once(
    folder: Path, unstopped: Distilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted((unstopped.folder / "latents").rglob("*.safetensors"))
    assert 2 < len(kept) <= 2 * 4 + 2  # two variants of four clips, and those of the validation
    monkeypatch.setattr(latents, "save_file", None)
    run(folder, "unstopped", resume=True, validation=folder / "clips")


def test_a_run_is_not_resumed_on_clips_that_are_cut_in_another_way(
    folder: Path, unstopped: Distilled, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(NUMBERS.replace("flip = 0.5", "flip = 0.0"))
    with pytest.raises(UsageError, match=r"augmentation\.flip is 0\.5 there, and 0\.0 here"):
        run(folder, "unstopped", resume=True, validation=folder / "clips", numbers=other)


def test_a_run_is_not_resumed_on_other_videos_that_give_as_many_clips(
    folder: Path, unstopped: Distilled, tmp_path: Path
) -> None:
    write_video(tmp_path / "b.mkv", brightening(40, seed=1))
    with pytest.raises(UsageError, match=r"data\.made_by\.of\.of\.windows is "):
        run(folder, "unstopped", resume=True, validation=folder / "clips", data=tmp_path)


def test_a_mistake_about_the_validation_shows_before_clips_are_encoded(
    folder: Path, tmp_path: Path
) -> None:
    for wrong in ({"lpips": tmp_path / "alexnet.pth"}, {"validation": tmp_path / "none"}):
        with pytest.raises(UsageError, match=r"measured on validation videos|no video file"):
            run(folder, "mistaken", **wrong)
    assert not (folder / "mistaken").exists()


def test_what_was_taken_from_the_teacher_is_told(folder: Path) -> None:
    lines: list[str] = []
    run(folder, "told", steps=2, progress=lines.append)
    told = next(line for line in lines if "the teacher's" in line)
    assert "conv_in.conv.weight" in told
    assert "not in the teacher: mid_block.resnets.0.conv1.depthwise_conv.weight" in told


def test_a_teacher_of_another_latent_is_refused(folder: Path, tmp_path: Path) -> None:
    ltx(latent_channels=4).save_pretrained(tmp_path / "other")
    without = folder / "without.toml"
    without.write_text(
        NUMBERS.replace("initialise_from_teacher = true", "initialise_from_teacher = false")
    )
    with pytest.raises(UsageError, match="takes latents of 8 channels"):
        run(folder, "refused", teacher=tmp_path / "other", numbers=without)


@pytest.mark.parametrize(
    ("teacher", "spreads"),
    [("hunyuan", [(1, 2), (1, 2)]), ("cogvideox", [(2, 2), (2, 2)]), ("wan21", [(2, 2), (2, 2)])],
)
def test_students_of_finer_latents_get_the_heads_that_their_teachers_need(
    folder: Path, tmp_path: Path, teacher: str, spreads: list[tuple[int, int]]
) -> None:
    """As published: Hunyuan's head goes into space, CogVideoX's into space and time."""
    student = STUDENT.replace("latent_channels = 8", "latent_channels = 4").replace(
        "channels = 8", "channels = 4"
    )
    for old, new in (("patch_size = 4", "patch_size = 1"), ("[2, 2, 2]", "[2, 2, 1]"),
                     ("\nstride = 32", "\nstride = 8"), ("frame_stride = 8", "frame_stride = 4")):  # fmt: skip
        student = student.replace(old, new)
    (tmp_path / "tiny.toml").write_text(student)
    plain = NUMBERS.replace("initialise_from_teacher = true", "initialise_from_teacher = false")
    for old, new in (('["up1"]', '["up0", "up1"]'), ("size_px = 64", "size_px = 32"),
                     ("variants = 2", "variants = 1")):  # fmt: skip
        plain = plain.replace(old, new)
    (tmp_path / "numbers.toml").write_text(plain)
    getattr(tiny_teachers, teacher)().save_pretrained(tmp_path / "teacher")
    clips = FromFiles(
        folder / "clips", tmp_path / "teacher", tmp_path / "run", silent, Hardware("cpu"), workers=0,
        model=str(tmp_path / "tiny.toml"), numbers=tmp_path / "numbers.toml", steps=2,
    )  # fmt: skip
    made = turbo_vaed.new_student(
        find_recipe(clips.model),
        load_teacher(clips.teacher),
        numbers_of("tiny", clips.numbers),
        clips,
    )
    heads: Any = made.projections
    assert [(h.spread.time, h.spread.space) for h in heads.values()] == spreads
    trained = turbo_vaed.train(clips)
    losses = [record["losses"] for record in records(trained)]
    assert {"mid_features", "up0_features", "up1_features"} <= set(losses[-1])


def test_an_official_student_has_numbers_and_a_recipe() -> None:
    for model in ("turbo-vaed-ltx", "turbo-vaed-hunyuan", "turbo-vaed-cog", "turbo-vaed-dc"):
        assert recipe_named(model) is turbo_vaed.train
        numbers = numbers_of(model)
        assert list(numbers.stages) == ["reconstruction", "adversarial"]
        assert numbers.stages["reconstruction"].accumulate(processes=1) == 8
        assert numbers.stages["reconstruction"].accumulate(processes=8) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size_px = 64", 'size_px = "big"', r"'data\.size_px' is 'big'"),
        ("size_px = 64\n", "", r"'data\.size_px' is missing"),
        ("[models.tiny]", "[models.other]", r"no table \[models.tiny\]"),
        ("[stages.adversarial]", "[stages.critic]", "'critic' is unknown"),
        (
            "initialise_from_teacher",
            "initialize_from_teacher",
            "'initialize_from_teacher' is unknown",
        ),
        ("[data]", "[data", "no valid TOML"),
        ("at_once = 1", "at_once = 0", r"'stages\.reconstruction\.at_once' is 0"),
        ("variants = 2", "variants = 0", "'variants' is 0"),
        ("[4, 8, 8, 8]", "[4, 8]", "there are four of them"),
    ],
)
def test_wrong_numbers_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "numbers.toml"
    file.write_text(NUMBERS.replace(old, new))
    with pytest.raises(UsageError, match=message):
        numbers_of("tiny", file)


def test_a_shorter_run_has_a_shorter_average() -> None:
    scaled = numbers_of("turbo-vaed-ltx").scaled_to(1100)
    assert [stage.steps for stage in scaled.stages.values()] == [700, 400]
    assert scaled.stages["adversarial"].ema == pytest.approx(0.9)
