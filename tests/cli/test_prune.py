"""`edgekit prune`: a folder that stands wherever a model's name does, and its training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from command_line import Command, leftovers
from PIL import Image

import edgekit as library
from edgekit.recipe import find_recipe

RECIPE = """
name = "small-pictures"
family = "srvgg"
summary = "A small restorer for tests"
source = "tests"
parameters = 1

[architecture]
width = 32
convs = 2
scale = 2

[weights]

[image]
height = 16
width = 16
stride = 1
order = "RGB"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[image.picture]
scale = 2
"""
QUICK = ("--round-to", "8", "--ratios", "importance")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and six pictures."""
    folder = tmp_path_factory.mktemp("prune")
    (folder / "small.toml").write_text(RECIPE)
    (folder / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (4, 5, 3), np.uint8).repeat(20, 0).repeat(20, 1)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    return folder


def test_a_pruned_folder_exports_with_fewer_channels_and_plans(
    edgekit: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = edgekit("prune", folder / "small.toml", "--data", folder / "pictures", "--keep", "0.6", "-o", "pruned", *QUICK)  # fmt: skip
    assert found.code == 0, found.err
    assert "against the whole network, untrained: " in found.out
    assert "Kept whole: 'body.6', since these channels are the network's output." in found.out
    report = json.loads((tmp_path / "pruned" / "pruning.json").read_text())
    assert report["left"] <= 0.6
    assert report["macs"][1] < 0.6 * report["macs"][0]

    assert (
        edgekit("export", "pruned", "--target", "onnx", "-o", "bundle", "--no-simplify").code == 0
    )
    file = onnx.load(next((tmp_path / "bundle").glob("*.onnx")))
    constants = {tensor.name: tuple(tensor.dims) for tensor in file.graph.initializer}
    counts = sorted(
        constants[node.input[1]][:1]
        for node in file.graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    )
    expected = sorted((layer["makes"][1],) for layer in report["layers"])
    assert counts == expected, "channel counts in the file are not those of the table"

    model = library.load("pruned")
    assert sum(p.numel() for p in model.module.parameters()) == report["parameters"][1]
    assert model.recipe is not None
    assert model.recipe.parameters == report["parameters"][1]
    described = edgekit("info", "pruned", "--json").json()
    assert described["parameters"] == report["parameters"][1]
    assert edgekit("plan", "pruned", "--json").json()["model"] == "small-pictures-pruned"


def test_training_brings_the_output_back(
    edgekit: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning_fabric")
    monkeypatch.chdir(tmp_path)
    asked = ("prune", folder / "small.toml", "--data", folder / "pictures", "--json", *QUICK)
    raw = edgekit(*asked, "-o", "raw").json()
    trained = edgekit(*asked, "-o", "trained", "--steps", "12").json()
    assert trained["steps"] == 12
    assert trained["macs"] == raw["macs"]
    assert trained["untrained"] == raw["quality"]
    assert trained["quality"]["psnr_db"][0] > raw["quality"]["psnr_db"][0]
    assert (tmp_path / "trained.run" / "metrics.jsonl").is_file()
    again = library.load("trained")
    first = again(*again.example_inputs)
    assert torch.isfinite(first).all()


TRANSFORMER = """
name = "small-transformer"
family = "vision-transformer"
summary = "A small transformer for tests"
source = "tests"
parameters = 1

[architecture]
side = 32
patch = 8
width = 32
depth = 2
heads = 2
classes = 4

[weights]

[image]
height = 32
width = 32
stride = 8
order = "RGB"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[image.logits]
classes = 4
"""


def test_blocks_of_a_transformer_become_zeros(
    edgekit: Command, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text(TRANSFORMER)
    asked = ("prune", tmp_path / "small.toml", "--blocks", "8x16", "--data", folder / "pictures", "--json")  # fmt: skip
    found = edgekit(*asked, "--keep", "0.4", "-o", tmp_path / "sparse").json()
    assert found["macs"][1] <= 0.4 * found["macs"][0]
    module = library.load(str(tmp_path / "sparse")).module
    numbers = sum(int(parameter.count_nonzero()) for parameter in module.parameters())
    assert numbers == found["parameters"][1]
    plain = edgekit(*asked, "--importance", "magnitude", "-o", tmp_path / "plain").json()
    assert plain["macs"][1] <= 0.5 * plain["macs"][0]
    assert {layer["gone"] / layer["blocks"] for layer in plain["layers"]} == {0.5}


def test_masks_are_trained_and_what_they_let_nothing_pass_of_is_cut_out(
    edgekit: Command, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lightning_fabric")
    (tmp_path / "small.toml").write_text(TRANSFORMER)
    asked = ("prune", tmp_path / "small.toml", "--masks", "4", "--round-to", "8", "--json")
    found = edgekit(*asked, "--data", folder / "pictures", "-o", tmp_path / "narrow").json()
    assert found["left"] <= 0.5
    assert (tmp_path / "narrow.run.masks" / "metrics.jsonl").is_file()
    narrow = library.load(str(tmp_path / "narrow"))
    count = sum(parameter.numel() for parameter in narrow.module.parameters())
    assert count == found["parameters"][1] < found["parameters"][0]


def test_what_exists_is_kept_unless_it_is_a_pruned_folder_and_forced(
    edgekit: Command, folder: Path, tmp_path: Path
) -> None:
    asked = ("prune", folder / "small.toml", *QUICK, "-o", tmp_path / "pruned")
    assert edgekit(*asked).code == 0
    assert edgekit(*asked).code == 2
    assert edgekit(*asked, "--force").code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    refused = edgekit(*asked[:-1], other, "--force")
    assert refused.code == 2
    assert refused.is_one_sentence()
    assert (other / "thesis.tex").exists()
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--keep", "1.5"), "keep is 1.5"),
        (("--importance", "magnitud"), "did you mean 'magnitude'"),
        (("--steps", "5"), "--steps trains on --data"),
        (("--ignore", "nothing.there"), "no module 'nothing.there'"),
        (("--blocks", "32x32", "--ratios", "scan"), "--blocks and --ratios do not belong together"),
        (("--blocks", "32x32", "--importance", "taylor"), "second-order or magnitude"),
        (("--blocks", "32x32"), "no linear layer of at least two blocks"),
        (("--power", "0.5"), "--power belongs to --blocks"),
        (("--masks", "5"), "--masks trains on --data"),
        (("--masks-only",), "--masks-only belongs to --masks"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    edgekit: Command, folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    found = edgekit("prune", folder / "small.toml", "-o", tmp_path / "pruned", *arguments)
    assert found.code == 2
    assert found.is_one_sentence()
    assert said in found.err


def test_a_recipe_with_channels_that_its_network_does_not_have_is_refused(
    edgekit: Command, tmp_path: Path
) -> None:
    for added, said in (
        ('[channels."body.99"]\nout_channels = 8\n', "body.99"),
        ('[channels."body.0"]\nout_chanels = 8\n', "out_chanels"),
        ('[channels."body.0"]\nweight = [900, 3, 3, 3]\n', "weight"),
        ("[channels]\nbody = 8\n", "channels"),
    ):
        (tmp_path / "wrong.toml").write_text(RECIPE + added)
        found = edgekit("info", tmp_path / "wrong.toml")
        assert found.code == 2, added
        assert found.is_one_sentence()
        assert said in found.err


def test_class_names_and_the_contract_survive(tmp_path: Path) -> None:
    from edgekit.recipe import read_recipe
    from edgekit.recipe_file import recipe_text

    for name in ("leyolo-composites", "turbo-vaed-mini", "realesr-animevideov3-x4", "fbnet-c"):
        recipe = find_recipe(name)
        (tmp_path / "copy.toml").write_text(recipe_text(recipe, "weights.safetensors"))
        again = read_recipe(tmp_path / "copy.toml")
        assert again.contract == recipe.contract
        assert again.architecture == recipe.architecture
        assert again.weights.bundled == "weights.safetensors"
