"""The demo picture and the shipped sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import edgekit
from edgekit.arrays import to_pixels
from edgekit.demo import draw_sample, psnr_db, read_sample
from edgekit.errors import UsageError
from edgekit.measured import read_measured
from edgekit.recipe import find_recipe


def test_the_picture_shows_original_teacher_and_student_in_three_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, frames, teacher = read_sample()
    count, height, width, _ = frames.shape
    model = edgekit.load("turbo-vaed", height=height, width=width, frames=count)
    edgekit.export(model, target="coreml", output=tmp_path / "demo.bundle", verify=False)
    draw_sample(tmp_path / "demo.bundle", tmp_path / "demo.png")
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size == (4 * width, 3 * (height + 18))
        rows = np.asarray(picture)
    assert np.array_equal(rows[18 : 18 + height, :width], frames[0])
    said = capsys.readouterr().out
    assert "teacher: TAEF2" in said
    assert "student: turbo-vaed-mini.mlpackage" in said
    assert psnr_db(teacher, frames) > 25


def test_the_shipped_student_decodes_the_sample_as_well_as_its_card_says() -> None:
    latent, frames, _ = read_sample()
    count, height, width, _ = frames.shape
    model = edgekit.load("turbo-vaed", height=height, width=width, frames=count)
    student = to_pixels(model(torch.from_numpy(latent))[0].numpy(), model.outputs[0])
    stated = read_measured(find_recipe("turbo-vaed").path)["sample"].value("student", "PSNR")
    assert psnr_db(student, frames) == pytest.approx(stated, abs=0.06)


def test_a_bundle_of_another_size_is_told_which_size_to_export(tmp_path: Path) -> None:
    model = edgekit.load("turbo-vaed", height=16, width=16, frames=1)
    edgekit.export(
        model, target="onnx", output=tmp_path / "small.bundle", verify=False, simplify=False
    )
    with pytest.raises(UsageError, match="--size 144x256 --frames 36"):
        draw_sample(tmp_path / "small.bundle", tmp_path / "demo.png")
