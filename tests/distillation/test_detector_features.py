"""A student matches features of a teacher beside the boxes."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_training import NUMBERS, RECIPE, asked

from edgekit.box_contract import Boxes
from edgekit.distillation.detector_features import AsTaken, feature_teacher
from edgekit.distillation.detectors import train
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.taps import Tapped
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network

IMAGES = ImageContract(
    64, 64, 32, "RGB", (0.0,) * 3, (1.0,) * 3, Boxes(2, ("red", "green"), (8,), (1,), "stretch")
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two, each with a red and a green square."""
    folder = tmp_path / "set"
    (folder / "pictures").mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2):
        picture = Image.new("RGB", (64, 64), "grey")
        for category, colour, corner in ((1, "red", (8 * number, 8)), (2, "lime", (30, 40))):
            picture.paste(colour, (*corner, corner[0] + 16, corner[1] + 16))
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            annotations.append({**ids, "bbox": [*corner, 16, 16], "area": 256, "iscrowd": 0})
        picture.save(folder / "pictures" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


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
    numbers = NUMBERS.replace("steps = 4", "steps = 60") + table
    return replace(asked(tmp_path, pictures, numbers=numbers), validation=None)


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
