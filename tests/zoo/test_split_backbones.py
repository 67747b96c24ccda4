"""The classifiers that split networks are made of, with their real weights where those can be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import asset_or_skip
from PIL import Image
from torch import Tensor

import edgekit
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.recipe import find_recipe
from edgekit.zoo.cost import network_cost
from edgekit.zoo.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from edgekit.zoo.families import build_network
from edgekit.zoo.split.cutting import cut
from edgekit.zoo.split.network import SplitNetwork

PUBLISHED = {
    "resnet-50": (25.56e6, 4.09e9),
    "resnet-101": (44.55e6, 7.80e9),
    "resnet-152": (60.19e6, 11.51e9),
    "densenet-169": (14.15e6, 3.36e9),
    "densenet-201": (20.01e6, 4.29e9),
    "inception-v3": (23.83e6, 5.71e9),
    "efficientnet-lite0": (4.65e6, 0.385e9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_products_are_the_published_ones(name: str) -> None:
    recipe = find_recipe(name)
    cost = network_cost(recipe, recipe.specs(None, None, None)[0].shape)
    parameters, macs = PUBLISHED[name]
    assert cost.parameters == pytest.approx(parameters, rel=1e-3)
    assert cost.macs == pytest.approx(macs, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "layer", "parameters", "shape"),
    [
        ("resnet-152", "layer2", 2_565_184, (512, 28, 28)),
        ("densenet-169", "features.transition2", 1_429_632, (256, 14, 14)),
        ("inception-v3", "maxpool2", None, (192, 35, 35)),
        ("mobilenet-v2", "features.6", None, (32, 28, 28)),
        ("efficientnet-lite0", "_blocks.4", None, (40, 28, 28)),
    ],
)
def test_what_a_bottleneck_stands_in_for_has_the_published_size(
    name: str, layer: str, parameters: int | None, shape: tuple[int, ...]
) -> None:
    recipe = find_recipe(name)
    with torch.device("meta"):
        front = cut(build_network(recipe).eval(), layer).front
        found = front(torch.empty(recipe.specs(None, None, None)[0].shape))
    assert tuple(found.shape[1:]) == shape
    if parameters is not None:
        assert sum(p.numel() for p in front.parameters()) == parameters


@pytest.mark.parametrize(("width", "depth", "parameters"), [(1.0, 1.1, 5.42e6), (1.1, 1.2, 6.09e6)])
def test_wider_and_deeper_lite_networks_have_the_published_size(
    width: float, depth: float, parameters: float
) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(EfficientNetLiteConfig(width, depth, 1000))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=1e-3)


def labelled_images(contract: ImageContract) -> tuple[Tensor, Tensor]:
    """20 photographs, squashed to the network's size."""
    files = sorted(Path(asset_or_skip("labelled_photographs")).glob("imagenet_*.jpg"))
    assert len(files) == 20
    size = (contract.width, contract.height)
    pixels = np.stack(
        [np.asarray(Image.open(file).convert("RGB").resize(size, 2)) for file in files]
    )
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(row)[:, None, None] for row in (contract.mean, contract.std))
    return (images - mean) / std, torch.tensor([int(file.stem.split("_")[-1]) for file in files])


@pytest.mark.parametrize(
    ("name", "weights", "right", "layer"),
    [
        ("efficientnet-lite0", "efficientnet_lite0", 16, "_blocks.4"),
        ("mobilenet-v2", "mobilenet_v2", 17, "features.6"),
    ],
)
def test_real_weights_find_the_photographs_classes_and_go_with_any_cut(
    name: str, weights: str, right: int, layer: str
) -> None:
    model = edgekit.load(name, weights=asset_or_skip(weights))
    contract = find_recipe(name).contract
    assert isinstance(contract, ImageContract)
    images, labels = labelled_images(contract)
    front, back = cut(model.module, layer)
    with torch.inference_mode():
        logits = model.module(images)
        assert torch.equal(back(front(images)), logits)
    assert int((logits.argmax(1) == labels).sum()) >= right


@pytest.mark.parametrize("name", ["efficientnet-lite0-split", "mobilenet-v2-bottlefit"])
def test_a_split_recipe_makes_a_split_network_of_its_backbone(name: str) -> None:
    recipe = find_recipe(name)
    with torch.device("meta"):
        network = build_network(recipe).eval()
        assert isinstance(network, SplitNetwork)
        image = torch.empty(1, 3, 224, 224)
        values = network.values(image)
        decoded = network.tails["main"].decoder(values)
        assert values.shape == (1, recipe.architecture["channels"], 28, 28)
        assert decoded.shape[2:] == (28, 28)
        assert network(image).shape == (1, 1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "bottlefit"}, "'bottlefit' is none of mobile, bottlefit-resnet"),
        ({"ends": "_blocks.44"}, "no layer '_blocks.44'"),
        ({"backbone": "mobilenet-v2-split"}, "is split already"),
        ({"backbone": "mobilnet-v2"}, "no model 'mobilnet-v2'"),
        ({"begins": "_blocks.1"}, "'begins' must be left away"),
        ({"channels": 65}, "1 to 64 channels, not 65"),
        ({"least_kept": 25}, "1 to 24 channels can be kept, not 25"),
        ({"quantiser": "huffman"}, "no quantiser 'huffman'"),
    ],
)
def test_a_split_recipe_that_fits_nothing_says_why(change: dict[str, object], words: str) -> None:
    recipe = find_recipe("efficientnet-lite0-split")
    wrong = replace(recipe, architecture={**recipe.architecture, **change})
    with torch.device("meta"), pytest.raises(UsageError, match=words):
        build_network(wrong)
