"""edgekit label, and training on what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command
from PIL import Image
from safetensors.torch import save_file
from small_detector import SmallDetector, register, write_detector


@pytest.fixture
def teacher(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe, its weights and a folder of two pictures."""
    register(monkeypatch)
    torch.manual_seed(7)
    save_file(SmallDetector(8, 3).state_dict(), place / "weights.safetensors")
    write_detector(place)
    (place / "street").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (10, 20, 3), np.uint8)
        Image.fromarray(noise).resize((200, 100)).save(place / "street" / f"{number}.png")
    return place


LABEL = ["label", "detector.toml", "--weights", "weights.safetensors", "--data", "street"]


def test_it_writes_annotations_that_evaluate_finds_the_teacher_perfect_on(
    edgekit: Command, teacher: Path
) -> None:
    pytest.importorskip("pycocotools")
    done = edgekit(*LABEL, "-o", "out", "--score", 0.4, "--json")
    (told,) = done.json()
    assert told["annotations"] == "out/annotations.json"
    assert told["pictures"] == 2
    assert sum(told["boxes"].values()) > 2
    figures = edgekit(
        "evaluate", "detector.toml", "out/annotations.json", "out/pictures",
        "--weights", "weights.safetensors", "--score", 0.4, "--json",
    ).json()  # fmt: skip
    assert figures["ap50"] > 0.95  # a JPEG moves scores by a hair


def test_it_says_what_it_wrote_and_what_to_do_with_it(edgekit: Command, teacher: Path) -> None:
    done = edgekit(
        *LABEL, "-o", "out", "--held-out", 0.5, "--classes", "car,person", "--score", 0.4
    )
    assert done.code == 0
    assert "out/train/annotations.json" in done.out
    assert "out/held-out/annotations.json" in done.out
    assert "edgekit distill STUDENT --data out/train/annotations.json" in done.out
    told = json.loads(Path("out/train/annotations.json").read_text())
    assert [category["name"] for category in told["categories"]] == ["car", "person"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "no file or folder nowhere"),
        (["--classes", "cra"], "did you mean 'car'"),
        (["--score", "2"], "score of 2"),
        (["--iou", "0"], "IoU of 0"),
        (["--every", "0"], "Every 0 frames"),
        (["--weights", "no.safetensors"], "no.safetensors"),
        (["-o", "street"], "street exists"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    arguments: list[str], words: str, edgekit: Command, teacher: Path
) -> None:
    done = edgekit(*LABEL, "-o", "out", *arguments)
    assert done.code == 2
    assert done.is_one_sentence()
    assert words in done.err
    assert not Path("out").exists()


def test_a_teacher_without_weights_teaches_nothing(edgekit: Command, teacher: Path) -> None:
    done = edgekit("label", "detector.toml", "--data", "street", "-o", "out")
    assert done.code == 2
    assert "random ones find nothing" in done.err
