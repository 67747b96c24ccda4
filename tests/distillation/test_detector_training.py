from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_detectors import FAMILIES
from tiny_training import NUMBERS, RECIPE, asked

from edgekit.box_contract import Boxes
from edgekit.detection.detections import Detections
from edgekit.detection.targets import Target
from edgekit.distillation.detectors import (
    LOSSES,
    MeanPrecision,
    Numbers,
    Training,
    annotated,
    targets_of,
    train,
)
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.pictures import FROM_THE_MIDDLE
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.taps import Outputs
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four grey pictures with a red and a green square, or nothing."""
    folder = tmp_path / "set"
    (folder / "pictures").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 5):
        pixels = np.full((64, 64, 3), 128, np.uint8)
        if number < 4:
            for category, (x, y) in ((1, (4 * number, 8)), (2, (30, 40))):
                pixels[y : y + 16, x : x + 16] = (255, 0, 0) if category == 1 else (0, 255, 0)
                box = {"bbox": [x, y, 16, 16], "area": 256, "iscrowd": 0}
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append(ids | box)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_a_detector_trains_from_annotations_and_is_measured_on_the_way(
    tmp_path: Path, pictures: Path
) -> None:
    trained = train(asked(tmp_path, pictures))
    records = read_metrics(trained.folder)
    measured = [record["validation"] for record in records if "validation" in record]
    assert len(measured) == 2
    assert all(set(found) == {"ap50", "ap"} for found in measured)
    boxes, scores = trained.model(torch.rand(1, 3, 64, 64))
    assert boxes.shape == (1, 84, 4)
    assert scores.shape == (1, 84, 2)
    assert (trained.folder / "student.safetensors").is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_s_loss_takes_what_its_heads_give_and_moves_them(
    pictures: Path, family: str
) -> None:
    torch.manual_seed(0)
    network = FAMILIES[family]().train()
    boxes = Boxes(3, ("red", "green", "blue"), (8,), (1,), "stretch")
    contract = ImageContract(64, 64, 32, "BGR", (0.5,) * 3, (0.5,) * 3, boxes)
    training = Training(contract, LOSSES[family])
    items = annotated(pictures, 64, FROM_THE_MIDDLE)
    batch = torch.utils.data.default_collate([items[index] for index in range(4)])
    heads = training.heads(network, batch)
    loss = training.term(batch, Outputs(heads), Outputs())
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with torch.no_grad():
        output = training.boxes(network.eval(), batch)
    found, expected = training.found_and_expected(batch, Outputs(output))
    assert len(found) == len(expected) == 4


def test_items_become_targets_without_their_padding(pictures: Path) -> None:
    items = annotated(pictures, 64, FROM_THE_MIDDLE)
    batch = torch.utils.data.default_collate([items[0], items[3]])
    full, empty = targets_of(batch)
    assert full.boxes.tolist() == [[4, 8, 20, 24], [30, 40, 46, 56]]
    assert full.classes.tolist() == [0, 1]
    assert empty.boxes.shape == (0, 4)


def test_the_measure_counts_what_is_found_in_the_right_place_and_class() -> None:
    target = Target(torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 50]]), torch.tensor([0, 1]))

    def measured(boxes: list[list[float]], labels: list[int]) -> float:
        metric = MeanPrecision("ap50", 2)
        scores = np.linspace(0.9, 0.5, len(labels), dtype=np.float32)
        found = Detections(np.array(boxes, np.float32), scores, np.array(labels))
        metric.update([found], [target])
        return float(metric.compute())

    right = [[0.0, 0, 20, 20], [30, 30, 50, 50]]
    assert measured(right, [0, 1]) == 1
    assert measured(right, [1, 0]) == 0
    assert measured([[0.0, 0, 20, 20], [60, 60, 80, 80]], [0, 1]) == pytest.approx(0.5)


def test_other_classes_than_the_recipe_s_are_refused(tmp_path: Path, pictures: Path) -> None:
    other = RECIPE.replace('["red", "green"]', '["green", "red"]')
    with pytest.raises(UsageError, match=r"finds green, red, and \S*set marks red, green"):
        train(asked(tmp_path, pictures, other))


def test_a_validation_whose_categories_have_another_order_is_refused(
    tmp_path: Path, pictures: Path
) -> None:
    swapped = tmp_path / "held-out"
    shutil.copytree(pictures, swapped)
    told = json.loads((swapped / "annotations.json").read_text())
    first, second = told["categories"]
    first["name"], second["name"] = second["name"], first["name"]
    (swapped / "annotations.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"finds red, green, and .*held-out marks green, red"):
        train(replace(asked(tmp_path, pictures), validation=swapped))


def test_what_was_left_out_of_the_annotations_of_a_validation_is_said(
    tmp_path: Path, pictures: Path
) -> None:
    held_out = tmp_path / "held-out"
    shutil.copytree(pictures, held_out)
    told = json.loads((held_out / "annotations.json").read_text())
    told["annotations"][0]["bbox"][2] = 0
    (held_out / "annotations.json").write_text(json.dumps(told))
    said: list[str] = []
    begun = replace(asked(tmp_path, pictures), validation=held_out, progress=said.append)
    train(begun)
    (line,) = [line for line in said if line.startswith("of ")]
    assert line.startswith(f"of {held_out}: 1 box")


def test_damaged_pictures_are_named_and_left_out_where_that_is_asked_for(
    tmp_path: Path, pictures: Path
) -> None:
    damaged = pictures / "pictures" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    others = tmp_path / "others"
    others.mkdir()
    shutil.copy(damaged, others)
    shutil.copy(pictures / "pictures" / "1.png", others)
    said: list[str] = []
    begun = replace(
        asked(tmp_path, pictures), validation=None, look_alikes=others, progress=said.append
    )
    with pytest.raises(UsageError, match=r"1 of 4 files .*2\.png.*--skip-damaged"):
        train(begun)
    trained = train(replace(begun, on_damage="skip"))
    assert (trained.folder / "student.safetensors").is_file()
    for source in (pictures, others):
        (line,) = [line for line in said if line.startswith(f"left out 1 files of {source}")]
        assert "2.png" in line


def test_numbers_that_lack_one_or_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "numbers.toml"
    file.write_text(NUMBERS.replace("warmup = 1\n", ""))
    with pytest.raises(UsageError, match="'warmup' is missing"):
        read_numbers(Numbers, "detectors", file)
    file.write_text(NUMBERS.replace("ema = 0.5", 'ema = "half"'))
    with pytest.raises(UsageError, match="'ema' is 'half' and must be of type float"):
        read_numbers(Numbers, "detectors", file)
    with pytest.raises(UsageError, match="none\\.toml cannot be read"):
        read_numbers(Numbers, "detectors", tmp_path / "none.toml")
