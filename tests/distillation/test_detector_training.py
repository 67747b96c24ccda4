from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_detectors import FAMILIES
from tiny_training import NUMBERS, RECIPE, asked

from edgekit.box_contract import Boxes
from edgekit.detection.detections import Detections
from edgekit.detection.targets import Target
from edgekit.distillation.detector_features import AsTaken, feature_teacher
from edgekit.distillation.detectors import (
    LOSSES,
    MeanPrecision,
    Training,
    annotated,
    read_numbers,
    targets_of,
    train,
)
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.pictures import FROM_THE_MIDDLE
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.taps import Outputs, Tapped
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network

IMAGES = ImageContract(
    64, 64, 32, "RGB", (0.0,) * 3, (1.0,) * 3, Boxes(2, ("red", "green"), (8,), (1,), "stretch")
)


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


FEATURES = """
[features]
teacher = "teacher.toml"
weights = "teacher.safetensors"
weight = 0.5
taps.stride8 = ["model.3", "model.3"]
taps.stride16 = ["model.4", "model.4"]
"""


def asked_to_match(tmp_path: Path, pictures: Path, table: str = FEATURES) -> FromFiles:
    """The teacher is a wider network that takes 96x96 in another order."""
    wider = RECIPE.replace("width = 0.25", "width = 0.5").replace("= 64\n", "= 96\n")
    (tmp_path / "teacher.toml").write_text(wider.replace('"RGB"', '"BGR"'))
    torch.manual_seed(1)
    network = build_network(find_recipe(str(tmp_path / "teacher.toml")))
    save_file(network.state_dict(), tmp_path / "teacher.safetensors")
    given = asked(tmp_path, pictures)
    (tmp_path / "numbers.toml").write_text(NUMBERS.replace("steps = 4", "steps = 60") + table)
    return replace(given, validation=None)


def test_features_of_a_teacher_are_matched_beside_the_boxes(tmp_path: Path, pictures: Path) -> None:
    trained = train(asked_to_match(tmp_path, pictures))
    records = [record["losses"] for record in read_metrics(trained.folder) if "losses" in record]
    assert {"leyolo", "stride8", "stride16"} <= set(records[0])
    assert records[-1]["stride16"] < 0.9 * records[0]["stride16"]
    assert not any("projection" in key for key in load_file(trained.folder / "student.safetensors"))


def test_a_batch_reaches_the_teacher_at_its_own_size_and_in_its_own_colours(
    tmp_path: Path, pictures: Path
) -> None:
    given = asked_to_match(tmp_path, pictures)
    table = tomllib.loads(FEATURES)["features"]
    teacher = feature_teacher(table, tmp_path / "numbers.toml")
    batch = {"picture": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}
    batch["picture"][:, 0] = 255
    seen: list[torch.Tensor] = []
    handle = teacher.tapped.module.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    teacher.tapped.forward(teacher.tapped.module, batch)
    handle.remove()
    assert seen[0].shape == (2, 3, 96, 96)
    assert seen[0].amax(dim=(0, 2, 3)).tolist() == [0.0, 0.0, 1.0]
    student = Tapped(build_network(find_recipe(given.model)), forward=AsTaken(IMAGES).output)
    projections = teacher.taught(student, 64).projections
    assert {name: one.grid for name, one in projections.items()} == {
        "stride8": (12, 12),
        "stride16": (6, 6),
    }


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (FEATURES.replace("taps.stride8", "tap.stride8"), "unexpected keyword argument 'tap'"),
        (FEATURES.split("taps")[0], "'taps'"),
        (FEATURES.replace('"model.3", "model.3"', '"model.3"'), "must be two names of modules"),
        (FEATURES.replace("weight = 0.5", 'weight = "much"'), "'weight' is 'much'"),
        (FEATURES.replace('"teacher.safetensors"', '"no.safetensors"'), "no.safetensors"),
        (FEATURES.replace('"teacher.toml"', '"nobody"'), "no model 'nobody'"),
        (FEATURES.replace('["model.3", ', '["model.333", '), "no module 'model.333'"),
        (FEATURES.replace('["model.3", "model.3"]', '["model.3", "model.27"]'), "is a list"),
    ],
)
def test_features_that_cannot_be_matched_are_one_sentence(
    table: str, sentence: str, tmp_path: Path, pictures: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        train(asked_to_match(tmp_path, pictures, table))


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
    with pytest.raises(UsageError, match="finds green, red, and the annotations mark red, green"):
        train(asked(tmp_path, pictures, other))


def test_numbers_that_lack_one_or_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "numbers.toml"
    file.write_text(NUMBERS.replace("warmup = 1\n", ""))
    with pytest.raises(UsageError, match="warmup"):
        read_numbers(file, None)
    file.write_text(NUMBERS.replace("ema = 0.5", 'ema = "half"'))
    with pytest.raises(UsageError, match="ema"):
        read_numbers(file, None)
    assert read_numbers(None, 7).steps == 7
