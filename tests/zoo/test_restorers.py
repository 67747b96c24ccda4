"""SRVGG and U-Net: networks that give a picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network
from edgekit.zoo.srvgg import SRVGG, SRVGGConfig
from edgekit.zoo.unet import UNet, UNetConfig

MIB = 2**20


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_network(find_recipe(name)).eval()


def test_the_state_dict_of_srvgg_is_the_official_one() -> None:
    """realesr-animevideov3: convolutions at even places of `body`, PReLU at odd ones."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(18):
        channels_in, channels = (3 if index == 0 else 64), (48 if index == 17 else 64)
        shapes[f"body.{2 * index}.weight"] = (channels, channels_in, 3, 3)
        shapes[f"body.{2 * index}.bias"] = (channels,)
        if index < 17:
            shapes[f"body.{2 * index + 1}.weight"] = (64,)
    own = on_meta("realesr-animevideov3-x4").state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == shapes


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_srvgg_adds_detail_to_the_nearest_enlargement(scale: int) -> None:
    torch.manual_seed(0)
    network = SRVGG(SRVGGConfig(8, 2, scale)).requires_grad_(False)
    picture = torch.rand(2, 3, 5, 7)
    enlarged = picture.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    x = picture
    for layer in network.body:
        x = layer(x)
    detail = x.view(2, 3, scale, scale, 5, 7).permute(0, 1, 4, 2, 5, 3)
    expected = enlarged + detail.reshape(2, 3, 5 * scale, 7 * scale)
    torch.testing.assert_close(network(picture), expected)


def test_a_unet_computes_what_its_levels_say() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig((4, 6, 8))).requires_grad_(False)
    picture = torch.rand(2, 3, 8, 12)
    state = network.state_dict()

    def level(x: Tensor, key: str) -> Tensor:
        for conv in (0, 2):
            weight, bias = state[f"{key}.{conv}.weight"], state[f"{key}.{conv}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
        return x

    def enlarged(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    whole = level(picture, "down.0")
    half = level(F.max_pool2d(whole, 2), "down.1")
    quarter = level(F.max_pool2d(half, 2), "down.2")
    half = level(torch.cat([enlarged(quarter), half], 1), "up.0")
    whole = level(torch.cat([enlarged(half), whole], 1), "up.1")
    expected = F.conv2d(whole, state["out.weight"], state["out.bias"], padding=1)
    torch.testing.assert_close(network(picture), expected)


def test_the_live_peak_of_the_unet_is_384_mib_at_1024() -> None:
    """Float32; at the last concatenation 32 enlarged, 16 skipped and 48 joined channels are live."""
    recipe = find_recipe("unet-c16")
    given, _ = recipe.specs(1024, 1024, None)
    program = torch.export.export(
        on_meta(recipe.name), (torch.empty(given.shape, device="meta"),)
    ).module()
    assert isinstance(program, GraphModule)
    assert live_peak_bytes(program) == 384 * MIB


def live_peak_bytes(program: GraphModule) -> int:
    """Of float32 values that operators make, each alive until its last reader ran; nothing in place."""
    nodes = list(program.graph.nodes)
    last_read = {node: max(map(nodes.index, node.users), default=index) for index, node in enumerate(nodes)}  # fmt: skip
    sizes = {node: 4 * node.meta["val"].numel() for node in nodes if is_computed(node)}
    return max(
        sum(size for node, size in sizes.items() if nodes.index(node) <= now <= last_read[node])
        for now in range(len(nodes))
    )


def is_computed(node: Node) -> bool:
    return node.op == "call_function" and isinstance(node.meta.get("val"), Tensor)
