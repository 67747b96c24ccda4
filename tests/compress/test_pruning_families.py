"""Every family of the zoo can be pruned: it runs, gives what it gave in shape, and does less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import edgekit
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.layers import channels_of
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import prune_model
from edgekit.recipe import all_recipes
from edgekit.zoo.families import build_network

ROUND_TO = 8
PLAIN = PruneOptions(keep=0.6, round_to=ROUND_TO, importance="magnitude", ratios="uniform")
SMALL = {
    "turbo-vaed-mini": (32, 32, 1),
    "mobilenet-v2-0.35": (32, 32, None),
    "mcunet-vww1": (32, 32, None),
    "realesr-animevideov3-x4": (8, 8, None),
    "unet-c16": (16, 16, None),
    "mobiledet-cpu": (64, 64, None),
    "leyolo-composites": (64, 64, None),
    "codenet-a": (64, 64, None),
    "efficientnet-lite0": (32, 32, None),
    "deit-tiny": (32, 32, None),
}
SLOW = {
    "turbo-vaed-cog": (16, 16, 5),
    "ssd-mobilenet-v2": (64, 64, None),
    "resnet-50": (32, 32, None),
    "densenet-169": (64, 64, None),
    "inception-v3": (96, 96, None),
    "resnet-50-bottlefit": (64, 64, None),
    "mobilenet-v2-split": (64, 64, None),
}


def test_each_family_is_among_those_that_are_pruned_here() -> None:
    tested = {recipe.family for recipe in all_recipes() if recipe.name in SMALL | SLOW}
    assert tested == {recipe.family for recipe in all_recipes()}


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_it_is_pruned_and_built_again_from_its_recipe(name: str) -> None:
    height, width, frames = (SMALL | SLOW)[name]
    model = edgekit.load(name, height=height, width=width, frames=frames)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    found = prune_model(model, PLAIN)
    narrow = found.model
    assert found.left <= PLAIN.keep
    assert found.macs[1] < found.macs[0]
    assert found.parameters[1] < found.parameters[0]

    shapes = [tensor.shape for tensor in tensors_of(model(*model.example_inputs))]
    made = tensors_of(narrow(*model.example_inputs))
    assert [tensor.shape for tensor in made] == shapes
    assert all(tensor.isfinite().all() for tensor in made)
    for layer in found.layers:
        assert channels_of(narrow.module.get_submodule(layer.path)) == (
            layer.reads[1],
            layer.makes[1],
        )
        for was, now in (layer.reads, layer.makes):
            assert (was - now) % ROUND_TO == was % ROUND_TO or was == now or now % ROUND_TO == 0

    assert narrow.recipe is not None
    again = build_network(narrow.recipe).eval()
    again.load_state_dict(narrow.module.state_dict())
    with torch.no_grad():
        for one, other in zip(made, tensors_of(again(*model.example_inputs)), strict=True):
            torch.testing.assert_close(one, other)
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the model that was given has changed"


def test_a_pruned_network_can_be_pruned_again() -> None:
    model = edgekit.load("unet-c16", height=16, width=16)
    once = edgekit.prune(model, replace(PLAIN, keep=0.7))
    twice = prune_model(once, replace(PLAIN, keep=0.7)).model
    assert twice.recipe is not None
    assert twice.name == "unet-c16-pruned"
    build_network(twice.recipe).load_state_dict(twice.module.state_dict())


def test_random_inputs_give_the_same_pruning_each_time() -> None:
    model = edgekit.load("realesr-animevideov3-x4", height=8, width=8)
    first, second = (edgekit.prune(model, PruneOptions(ratios="importance")) for _ in range(2))
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy())
