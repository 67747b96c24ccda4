from __future__ import annotations

import zlib
from functools import cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.recipe import all_recipes, find_recipe
from edgekit.video_latent import VideoContract
from edgekit.zoo.cost import network_cost
from edgekit.zoo.families import build_network
from edgekit.zoo.layers import ChannelLayerNorm, channels_to_frames, repeat_edge_frames

DECODERS = [recipe for recipe in all_recipes() if isinstance(recipe.contract, VideoContract)]
GOLDEN = Path(__file__).parents[1] / "golden"
NETWORKS = {  # recipe: golden file, parameters, tensors
    "turbo-vaed-ltx": ("ltx", 41_896_023, 86),
    "turbo-vaed-dc": ("dc", 45_831_383, 134),
    "turbo-vaed-hunyuan": ("hunyuan", 40_687_811, 158),
    "turbo-vaed-cog": ("hunyuan", 40_687_811, 158),
}


def follow_weight_rule(network: nn.Module) -> None:
    """Weights of the golden vectors; see tests/golden/README.md."""
    with torch.no_grad():
        for key, parameter in network.state_dict().items():
            shape = tuple(parameter.shape)
            x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
            if key.endswith("norm3.weight"):
                x = 1 + 0.1 * x
            elif len(shape) == 1:
                x = 0.1 * x
            else:
                x = x / sqrt(prod(shape[1:]))
            parameter.copy_(torch.from_numpy(x.astype(np.float32)))


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_network(find_recipe(name)).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_decoder_equals_the_official_one(name: str) -> None:
    golden = np.load(GOLDEN / f"{NETWORKS[name][0]}.npz")
    network = on_meta(name).to_empty(device="cpu")
    on_meta.cache_clear()
    follow_weight_rule(network)
    with torch.no_grad():
        video = network(torch.from_numpy(golden["latent"])).numpy()
    assert video.shape == golden["video"].shape
    np.testing.assert_allclose(video, golden["video"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_tensors_are_those_of_the_official_checkpoint(name: str) -> None:
    network = on_meta(name)
    _, parameters, tensors = NETWORKS[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors


@pytest.mark.parametrize("recipe", DECODERS, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("larger", [0, 1])
def test_the_network_gives_the_video_that_the_recipe_declares(recipe: object, larger: int) -> None:
    geometry = recipe.contract.latent
    frames = recipe.contract.frames + larger * geometry.frame_stride
    latent, video = geometry.specs(2 * geometry.stride, 3 * geometry.stride, frames)
    result = on_meta(recipe.name)(torch.empty(latent.shape, device="meta"))
    assert tuple(result.shape) == video.shape


def test_macs_per_pixel_are_those_of_the_paper() -> None:
    cost = network_cost(find_recipe("turbo-vaed-ltx"), (1, 128, 3, 4, 4))
    assert cost.parameters == 41_896_023
    # 91.2 thousand for long videos (facts of the network); the repeated lead adds to short ones.
    assert 80e3 < cost.macs / (17 * 128 * 128) < 120e3


def test_channels_go_to_frames_with_the_frame_offset_as_the_fastest_digit() -> None:
    x = torch.randn(2, 6, 3, 4, 5)
    expected = torch.empty(2, 2, 9, 4, 5)
    for channel in range(6):
        for frame in range(3):
            expected[:, channel // 3, frame * 3 + channel % 3] = x[:, channel, frame]
    torch.testing.assert_close(channels_to_frames(x, 3), expected, rtol=0, atol=0)


def test_edge_frames_are_repeated_on_both_sides() -> None:
    x = torch.randn(1, 2, 3, 4, 5)
    frames = [x[:, :, index] for index in (0, 0, 0, 1, 2, 2, 2)]
    assert torch.equal(repeat_edge_frames(x, 2), torch.stack(frames, dim=2))
    assert repeat_edge_frames(x, 0) is x


def test_a_channel_layer_norm_normalises_each_pixel_by_itself() -> None:
    norm = ChannelLayerNorm(4)
    x = torch.randn(2, 4, 2, 3, 3)
    pixel: Tensor = norm(x)[1, :, 1, 2, 0]
    one = x[1, :, 1, 2, 0]
    expected = (one - one.mean()) / torch.sqrt(one.var(unbiased=False) + norm.eps)
    torch.testing.assert_close(pixel, expected)
