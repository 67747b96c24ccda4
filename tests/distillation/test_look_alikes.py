from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_training import NUMBERS, asked

from edgekit.distillation.detectors import annotated, look_alikes, targets_of, train
from edgekit.distillation.look_alikes import WithLookAlikes
from edgekit.distillation.pictures import FROM_THE_MIDDLE
from edgekit.errors import UsageError

RED, BLUE = (255, 0, 0), (0, 0, 255)
Write = Callable[[str, tuple[int, int, int], bool], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A set of four pictures of one colour, each with a box or none."""

    def written(name: str, colour: tuple[int, int, int], marks: bool) -> Path:
        folder = tmp_path / name
        (folder / "pictures").mkdir(parents=True)
        images, annotations = [], []
        for number in range(1, 5):
            Image.new("RGB", (64, 64), colour).save(folder / "pictures" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
            box = {"bbox": [8, 8, 16, 16], "area": 256, "iscrowd": 0}
            if marks:
                annotations.append({"id": number, "image_id": number, "category_id": 1} | box)
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return written


def test_look_alikes_stand_among_the_others_by_their_share_and_have_no_boxes(write: Write) -> None:
    known = annotated(write("known", RED, True), 64, FROM_THE_MIDDLE)
    others = look_alikes(write("others", BLUE, False), 64, FROM_THE_MIDDLE)
    mixed = WithLookAlikes(known, others, 0.25)
    assert len(mixed) == 4
    torch.manual_seed(0)
    items = [mixed[index % 4] for index in range(400)]
    is_blue = np.array([int(item["picture"][2, 0, 0]) == 255 for item in items])
    assert 70 <= is_blue.sum() <= 130  # four standard deviations of 8.7
    targets = targets_of(torch.utils.data.default_collate(items))
    assert [len(target.boxes) for target in targets] == [0 if blue else 1 for blue in is_blue]


def test_a_plain_folder_of_pictures_will_do(write: Write) -> None:
    others = look_alikes(write("others", BLUE, False) / "pictures", 64, FROM_THE_MIDDLE)
    assert len(others) == 4
    assert others[0].shape == (3, 64, 64)


def test_look_alikes_with_boxes_are_refused(write: Write) -> None:
    marked = write("marked", BLUE, True)
    with pytest.raises(UsageError, match=r"no boxes, and .*marked marks some"):
        look_alikes(marked, 64, FROM_THE_MIDDLE)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_of_all_or_nothing_is_refused(write: Write, share: float) -> None:
    known = annotated(write("known", RED, True), 64, FROM_THE_MIDDLE)
    others = look_alikes(write("others", BLUE, False), 64, FROM_THE_MIDDLE)
    with pytest.raises(UsageError, match="A share of look-alikes"):
        WithLookAlikes(known, others, share)


def test_fine_tuning_begins_with_the_weights_that_are_given(tmp_path: Path, write: Write) -> None:
    known, others = write("known", RED, True), write("others", BLUE, False)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = train(asked(tmp_path / "first", known))
    still = NUMBERS.replace("1e-3", "1e-30")
    second_run = asked(tmp_path / "second", known, numbers=still)
    initial = first.folder / "student.safetensors"
    second = train(replace(second_run, initial=initial, look_alikes=others))
    begun, ended = load_file(initial), load_file(second.folder / "student.safetensors")
    for name, parameter in second.model.module.named_parameters():
        assert torch.equal(begun[name], ended[name]), name
        assert torch.equal(parameter, ended[name]), name
    told = json.loads((second.folder / "recipe.json").read_text())
    assert told["data"]["made_by"]["share"] == 0.25


def test_initial_weights_of_another_network_are_refused(tmp_path: Path, write: Write) -> None:
    save_file({"model.0.c.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    begun = asked(tmp_path, write("known", RED, True))
    with pytest.raises(UsageError, match=r"other\.safetensors"):
        train(replace(begun, initial=tmp_path / "other.safetensors"))
