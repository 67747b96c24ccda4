"""Masks of a variational bottleneck: what they do in a network, and what is cut out by them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.bottleneck_pruning import prune_by_bottleneck
from edgekit.compress.pruning.bottleneck import BottleneckOptions, Mask, MaskedNetwork
from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.pruned import traced_groups
from edgekit.compress.pruning.soundness import unread
from edgekit.distillation.network_inputs import Inputs
from edgekit.errors import UsageError
from edgekit.model import Model, model_of_module
from edgekit.zoo.vision_transformer import VisionTransformer, VisionTransformerConfig

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def convolutions() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3), nn.Flatten())
    return model_of_module(network.requires_grad_(False), IMAGES[:1], "convolutions")


def masked(model: Model, keep: float = 0.5) -> tuple[MaskedNetwork, list[ChannelGroup]]:
    groups = traced_groups(model, BottleneckOptions(1, keep).structure)[1]
    return MaskedNetwork(model.module, model.example_inputs, groups, keep, 1.0).eval(), groups


def test_information_is_half_the_logarithm_of_signal_to_noise() -> None:
    mask = Mask(3, pace=1.0)
    with torch.no_grad():
        mask.widened.copy_(torch.tensor([0.0, 0.2, 0.4]))
    ratio = mask.log_ratio.exp()
    torch.testing.assert_close(mask.information, (1 + ratio).log() / 2)
    mask.train().draw(20_000)
    torch.testing.assert_close(mask.drawn.mean(0), mask.mean, rtol=0.05, atol=0.05)
    expected = (mask.mean.square() / ratio).sqrt()
    torch.testing.assert_close(mask.drawn.std(0), expected, rtol=0.05, atol=1e-3)


def test_a_mask_of_zeros_is_the_group_unread_and_folds_into_weights() -> None:
    model = convolutions()
    network, (group,) = masked(model)
    mask = network.masks[0]
    assert isinstance(mask, Mask)
    torch.testing.assert_close(network(IMAGES).output, model.module(IMAGES))
    with torch.no_grad():
        mask.moved[3:6] = -1.0  # a mean of zero
        mask.moved[7] = 0.5
    found = network(IMAGES).output
    with torch.no_grad(), unread(model.module, [group], {group.name: [3, 4, 5]}):
        model.module[2].weight[:, 7] *= 1.5
        expected = model.module(IMAGES)
        model.module[2].weight[:, 7] /= 1.5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(network.folded([group])(IMAGES), found)


def test_the_work_left_is_that_of_the_atoms_which_are_present() -> None:
    network, _ = masked(convolutions())
    mask = network.masks[0]
    assert isinstance(mask, Mask)
    assert network.left().item() > 0.95
    with torch.no_grad():
        mask.widened[:8] = 1.5  # noise of e^13
    assert network.left().item() == pytest.approx(0.5, abs=0.02)
    assert network.overrun().item() < 0.05
    rest = network.information()
    with torch.no_grad():
        mask.widened[8:] = 1.5
    assert network.information().item() < 0.01 * rest.item()


def test_multipliers_climb_while_too_much_is_left() -> None:
    network, _ = masked(convolutions(), keep=0.3)
    network.overrun().backward()
    assert (network.multipliers.grad < 0).all()  # a step of descent makes them larger
    mask = network.masks[0]
    assert isinstance(mask, Mask)
    assert (mask.widened.grad < 0).all()  # and adds noise


def test_heads_and_units_that_do_nothing_go_first_and_the_rest_computes_the_same(
    tmp_path: Path,
) -> None:
    pytest.importorskip("lightning_fabric")
    torch.manual_seed(0)
    config = VisionTransformerConfig(side=8, patch=4, width=16, depth=1, heads=2, classes=4)
    network = VisionTransformer(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.4)
    with torch.no_grad():
        network.blocks[0].attn.proj.weight[:, :8] = 0
        network.blocks[0].mlp.fc2.weight[:, 16:48] = 0
    model = model_of_module(network.requires_grad_(False), IMAGES[:1], "transformer")
    options = BottleneckOptions(60, 0.6, 8, ignored=("patch_embed",), masks_only=True)
    inputs = Inputs(IMAGES, lambda stacked: stacked)
    found = prune_by_bottleneck(model, options, inputs, [IMAGES], run=tmp_path / "run")
    assert found.left <= 0.6
    attention = found.model.module.get_submodule("blocks.0.attn")
    assert attention.get_submodule("qkv").out_features == 24
    assert found.quality.psnr_db[0] > 25
    torch.testing.assert_close(
        attention.get_parameter("qkv.weight"), network.blocks[0].attn.qkv.weight.view(3, 2, 8, 16)[:, 1].flatten(0, 1)
    )  # fmt: skip


def test_options_that_mean_nothing_are_refused() -> None:
    for wrong in ({"steps": 0}, {"steps": 5, "keep": 1.0}, {"steps": 5, "round_to": 0}):
        with pytest.raises(UsageError):
            BottleneckOptions(**wrong)  # type: ignore[arg-type]
