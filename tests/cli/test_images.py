"""Every verb on models that take images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from PIL import Image
from small_classifier import RECIPE as CLASSIFIER

ENLARGER = """
name = "small-enlarger"
family = "srvgg"
summary = "A small super-resolution network for tests"
source = "tests"
parameters = 1340

[architecture]
width = 8
convs = 1
scale = 2

[weights]

[image]
height = 6
width = 8
stride = 2
order = "RGB"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[image.picture]
scale = 2
"""


@pytest.fixture
def images(place: Path) -> Path:
    (place / "classifier.toml").write_text(CLASSIFIER)
    (place / "enlarger.toml").write_text(ENLARGER)
    return place


def test_list_names_image_models_with_their_family(edgekit: Command) -> None:
    models = {model["name"]: model for model in edgekit("list", "--json").json()}
    assert models["mobilenet-v2"]["family"] == "mobilenet-v2"
    assert models["mcunet-in3"]["parameters"] == 737_408
    assert models["unet-c16"]["weights"] == "none"


def test_info_counts_one_image(edgekit: Command) -> None:
    facts = edgekit("info", "mobilenet-v2", "--json").json()
    assert (facts["parameters"], facts["macs"]) == (3_504_872, 300_774_272)
    assert facts["gmac_per_image"] == 0.3008
    assert facts["image"]["output"] == {"kind": "logits", "classes": 1000}
    assert "latent_scaling" not in facts
    text = edgekit("info", "mobilenet-v2", "--size", "128x160").out
    assert "GMAC per image at 128x160\n" in text
    assert "image NCHW 1x3x128x160 in [-2.118, 2.64]: RGB, (x - mean) / std" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "enlarger.toml", "--frames", "3"], "makes no video; leave --frames away"),
        (["export", "enlarger.toml", "--target", "onnx", "--frames", "3"], "leave --frames away"),
        (["export", "enlarger.toml", "--target", "onnx", "--size", "7x8"], "height 7 is no multip"),
    ],
)
def test_what_no_image_has_is_one_sentence(
    edgekit: Command, images: Path, arguments: list[str], words: str
) -> None:
    result = edgekit(*arguments)
    assert (result.code, result.is_one_sentence()) == (2, True), result
    assert words in result.err


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_picture_is_exported_run_drawn_and_rebuilt_at_its_size(
    edgekit: Command, images: Path, target: str
) -> None:
    options = ["--target", target, "--size", "10x12", "-o", "b", "--no-simplify"]
    result = edgekit("export", "enlarger.toml", *options)
    assert result.code == 0, result
    manifest = json.loads((images / "b" / "manifest.json").read_text())
    assert manifest["image"] == {
        "order": "RGB",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "output": {"kind": "picture", "scale": 2},
    }
    np.save("picture.npy", np.full((1, 3, 10, 12), 0.5, np.float32))
    result = edgekit("run", "b", "--input", "image=picture.npy", "-o", "out", "--json")
    assert result.json()["files"] == ["out/picture.npy", "out/picture.png"]
    drawn = np.asarray(Image.open("out/picture.png"))
    values = np.load("out/picture.npy")[0].transpose(1, 2, 0)
    assert drawn.shape == (20, 24, 3)
    np.testing.assert_array_equal(drawn, np.rint(values.clip(0, 1) * 255).astype(np.uint8))
    result = edgekit("verify", "b", "--bisect", "--model", "enlarger.toml")
    assert result.code == 0, result
    assert "No operator's error reaches an output." in result.out


def test_a_classifier_is_exported_and_its_scores_are_no_picture(
    edgekit: Command, images: Path
) -> None:
    export = ["export", "classifier.toml", "--target", "onnx", "-o", "b", "--no-simplify", "--json"]
    parity = edgekit(*export).json()["parity"]
    assert parity["passed"]
    assert parity["outputs"][0]["name"] == "logits"
    assert edgekit("run", "b", "-o", "out", "--json").json()["files"] == ["out/logits.npy"]
    assert edgekit("verify", "b", "--half-audit", "--model", "classifier.toml").code == 0
    wrong = edgekit("verify", "b", "--bisect", "--model", "small.toml")
    assert (wrong.code, wrong.is_one_sentence()) == (2, True)
    assert "'small.toml' is not the model of b" in wrong.err
    latent = edgekit("run", "b", "--input", "pipeline_latent=out/logits.npy")
    assert "has no latent" in latent.err


def test_a_recipe_whose_network_gives_another_number_of_classes_is_refused(
    edgekit: Command, images: Path
) -> None:
    (images / "wrong.toml").write_text(
        CLASSIFIER.replace("classes = 5\nactiv", "classes = 4\nactiv")
    )
    result = edgekit("export", "wrong.toml", "--target", "onnx")
    assert (result.code, result.is_one_sentence()) == (2, True)
    assert "the architecture has classes 4 and the image table 5" in result.err
