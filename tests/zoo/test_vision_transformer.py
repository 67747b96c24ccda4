"""DeiT-Tiny: its size, its published names, and what it computes beside torch's own layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import edgekit
from edgekit.zoo.vision_transformer import (
    Block,
    VisionTransformer,
    VisionTransformerConfig,
    positions_of,
)

SMALL = VisionTransformerConfig(side=32, patch=8, width=24, depth=2, heads=3, classes=5)
NAMES_OF_A_BLOCK = {
    f"{layer}.{kind}"
    for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for kind in ("weight", "bias")
}


def small() -> VisionTransformer:
    torch.manual_seed(0)
    network = VisionTransformer(SMALL).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def test_deit_tiny_has_the_published_number_of_parameters() -> None:
    config = VisionTransformerConfig(side=224, patch=16, width=192, depth=12, heads=3, classes=1000)
    with torch.device("meta"):
        network = VisionTransformer(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_717_416


def test_names_are_those_of_published_state_dicts(tmp_path: Path) -> None:
    names = set(small().state_dict())
    outside = {name for name in names if not name.startswith("blocks.")}
    assert outside == {
        "cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias",
        "norm.weight", "norm.bias", "head.weight", "head.bias",
    }  # fmt: skip
    assert names - outside == {f"blocks.{n}.{name}" for n in range(2) for name in NAMES_OF_A_BLOCK}

    state = edgekit.load("deit-tiny", height=32, width=32).module.state_dict()
    torch.save({"model": {key: value + 1 for key, value in state.items()}}, tmp_path / "deit.pth")
    loaded = edgekit.load("deit-tiny", tmp_path / "deit.pth", height=32, width=32)
    assert torch.equal(loaded.module.state_dict()["cls_token"], state["cls_token"] + 1)


def test_a_block_computes_what_torchs_own_encoder_layer_does() -> None:
    block = small().blocks[0]
    assert isinstance(block, Block)
    own = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()  # fmt: skip
    of = {
        "self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.", "norm1.": "norm1.", "norm2.": "norm2.",
    }  # fmt: skip
    state = block.state_dict()
    own.load_state_dict(
        {f"{theirs}{kind}": state[f"{ours}{kind}"] for theirs, ours in of.items() for kind in ("weight", "bias")}
    )  # fmt: skip
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x), own(x), rtol=1e-4, atol=1e-5)


def test_the_class_token_stands_first_and_each_has_its_position() -> None:
    network = small()
    seen: list[torch.Tensor] = []
    network.blocks.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    image = torch.randn(1, 3, 32, 32)
    network(image)
    patches = network.patch_embed(image).flatten(2).transpose(1, 2)
    expected = torch.cat([network.cls_token, patches], 1) + network.pos_embed
    torch.testing.assert_close(seen[0], expected)


def test_other_sizes_resize_the_grid_of_positions() -> None:
    network = small()
    assert network(torch.randn(2, 3, 48, 24)).shape == (2, 5)
    learnt = network.pos_embed
    assert positions_of(learnt, 4, 4) is learnt
    larger = positions_of(learnt, 8, 8)
    assert torch.equal(larger[:, :1], learnt[:, :1])
    # Halfway between two cells lies their mean.
    left, right = learnt[0, 1], learnt[0, 2]
    torch.testing.assert_close(larger[0, 2], 0.75 * left + 0.25 * right)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads must share the width 16"):
        VisionTransformerConfig(side=32, patch=8, width=16, depth=1, heads=3, classes=2)
