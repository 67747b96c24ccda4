"""edgekit plan: numbers, pictures, and what it says where nothing can be planned."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import edgekit
from edgekit.cli.main import run_command
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.plan.picture import draw

SMALL = ["plan", "mobilenet-v2-0.35", "--size", "64x64", "--elements", "int8"]


def test_json_has_the_fields_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*SMALL, "--json", "--steps", "--max-overhead", "20%"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak_bytes"] < found["whole_peak_bytes"] / 2
    assert 0 <= found["mac_overhead"] <= 0.2
    assert found["floor"]["bytes"] <= found["peak_bytes"]
    assert "conv2d" in found["floor"]["operator"]
    assert found["regions"][0]["from"] == "image"
    assert max(step["live_bytes"] for step in found["steps"]) == found["whole_peak_bytes"]
    assert max(step["planned_bytes"] for step in found["steps"]) == found["peak_bytes"]


def test_the_text_names_the_peak_the_stretches_and_the_trade(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(SMALL) == 0
    said = capsys.readouterr().out
    for words in ("whole", "planned", "extra work", "floor", "streaming", "Less memory for more"):
        assert words in said


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_can_be_read(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"memory.{ending}"
    assert run_command([*SMALL, "--tiles", "2x2", "--picture", str(file)]) == 0
    if ending == "png":
        with Image.open(file) as picture:
            assert picture.size == (2400, 1120)
            assert len(picture.getcolors(1 << 24) or []) > 50
    else:
        words = [text.text for text in ElementTree.parse(file).iter() if text.text]
        assert any("mobilenet-v2-0.35, 1x3x64x64, int8" in word for word in words)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_that_cannot_be_written_is_an_environment_error(
    tmp_path: Path, ending: str
) -> None:
    (taken := tmp_path / f"memory.{ending}").mkdir()
    with pytest.raises(MissingEnvironmentError, match="cannot be written: Is a directory"):
        draw([], taken)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory-budget", "2kB"], "the floor is"),
        (["--memory-budget", "lots"], "is no amount of memory"),
        (["--max-overhead", "much"], "is no share of extra work"),
        (["--tiles", "400x400"], "finer than the largest image"),
        (["--tiles", "2x2", "--max-overhead", "5%"], "Give one of"),
        (["--elements", "int4"], "not one of fp32, fp16, int8"),
        (["--picture", "memory.gif"], "neither a .png nor an .svg"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert run_command([*SMALL, *options]) == 2
    assert words in capsys.readouterr().err


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(x) + y


def test_several_inputs_are_reported_whole_and_refuse_a_budget() -> None:
    images = (torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8))
    found = edgekit.memory_plan(TwoInputs(), images)
    assert "one input and one output" in found.why_not
    assert found.peak_bytes == found.whole.peak_bytes
    with pytest.raises(UsageError, match="one input and one output"):
        edgekit.memory_plan(TwoInputs(), images, memory_budget="1kB")


def test_operators_that_see_the_whole_image_are_named() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
    found = edgekit.memory_plan(module, torch.randn(1, 3, 16, 16))
    assert [barrier.operator for barrier in found.barriers] == ["group_norm"]
    assert "whole image" in found.barriers[0].reason
