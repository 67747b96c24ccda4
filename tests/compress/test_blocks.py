"""Blocks of zeros in linear layers: their sums, curves, shares, and what is left out because nothing reads it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import edgekit
from edgekit.compress.blocks.curves import DAMPING, LEVELS, curves
from edgekit.compress.blocks.grid import block_sums, spread
from edgekit.compress.blocks.options import BlockOptions, Magnitude, SecondOrder
from edgekit.compress.blocks.share import Offer, chosen_levels
from edgekit.compress.blocks.sparse import block_prune_model
from edgekit.compress.pruning.unread import without_unread
from edgekit.distillation.network_inputs import Inputs
from edgekit.errors import UsageError
from edgekit.model import Model, model_of_module
from edgekit.pruning import recovered
from edgekit.zoo.vision_transformer import VisionTransformer, VisionTransformerConfig

SMALL = VisionTransformerConfig(side=16, patch=4, width=32, depth=2, heads=2, classes=4)
IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
BATCHES = [(IMAGES[:4],), (IMAGES[4:],)]


def transformer() -> Model:
    torch.manual_seed(0)
    network = VisionTransformer(SMALL)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model_of_module(network.requires_grad_(False), IMAGES[:1], "small")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_sums_of_blocks_are_those_of_their_numbers(
    rows: int, columns: int, high: int, wide: int
) -> None:
    values = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    sums = block_sums(values, (high, wide))
    for row, column in itertools.product(range(sums.shape[0]), range(sums.shape[1])):
        part = values[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
        assert sums[row, column] == part.sum()
    numbers = torch.arange(sums.numel()).view_as(sums)
    whole = spread(numbers, (rows, columns), (high, wide))
    for row, column in itertools.product(range(rows), range(columns)):
        assert whole[row, column] == numbers[row // high, column // wide]


def test_distortion_is_the_second_order_estimate_written_out() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    data = [(torch.randn(5, 8),), (torch.randn(5, 8),)]
    found = curves(copy.deepcopy(network), ["0"], data, (4, 4))["0"]
    weight = network[0].weight
    gradients = []
    for (x,) in data:
        (gradient,) = torch.autograd.grad(network(x).square().mean(), weight)
        gradients.append(gradient.double())
    most, smoothed = 0.0, []
    for level in range(LEVELS):
        worst = most
        for gone in range(int(found.gone[level]) + 1):
            blocks = torch.zeros(4)
            blocks[found.order[:gone]] = 1
            change = -(weight.double() * spread(blocks.view(2, 2), (8, 8), (4, 4)))
            first = torch.stack([(change * g).square().mean() for g in gradients]).mean()
            fisher = torch.stack([(change * g).sum().square() for g in gradients]).mean()
            worst = max(worst, (first + (fisher + DAMPING * change.square().sum()) / 2).item())
        most = worst
        smoothed.append(most if not smoothed else (smoothed[-1] + most) / 2)
    assert found.distortion.tolist() == pytest.approx(smoothed, rel=1e-6)


def test_one_slope_leaves_no_exchange_that_is_better() -> None:
    generator = torch.Generator().manual_seed(0)
    offered = {}
    for name in ("a", "b"):
        harm = torch.rand(5, generator=generator).double().sort().values.cumsum(0)
        offered[name] = Offer(torch.linspace(8, 0, 5).double(), harm, 0)
    for keep in (0.25, 0.5, 0.75):
        levels = chosen_levels(offered, keep)
        macs = sum(float(offered[name].macs[level]) for name, level in levels.items())
        harm = sum(float(offered[name].harm[level]) for name, level in levels.items())
        assert macs <= keep * 16
        best = min(
            float(offered["a"].harm[i] + offered["b"].harm[j])
            for i, j in itertools.product(range(5), range(5))
            if float(offered["a"].macs[i] + offered["b"].macs[j]) <= macs
        )
        assert harm == pytest.approx(best)


@pytest.mark.parametrize("by", [SecondOrder(), SecondOrder(power=0), Magnitude()])
def test_what_is_left_is_what_was_asked_and_zeros_stand_in_blocks(
    by: SecondOrder | Magnitude,
) -> None:
    model = transformer()
    found = block_prune_model(model, BlockOptions(0.5, (8, 16), by), BATCHES)
    before, after = found.macs
    assert (0.1 if found.channels_gone else 0.35) * before < after <= 0.5 * before
    for layer in found.layers:
        module = found.model.module.get_submodule(layer.path)
        assert isinstance(module, nn.Linear)
        if not found.channels_gone:
            used = block_sums((module.weight != 0).double(), (8, 16))
            assert set(used.unique().tolist()) <= {0.0, 128.0}
            assert int((used == 0).sum()) == layer.gone
    assert "head" not in {layer.path for layer in found.layers}
    assert f"{after / before:.1%} of these layers' multiply-accumulates" in found.summary()


def test_a_power_that_weighs_takes_more_of_layers_that_read_more() -> None:
    model = transformer()

    def gone(power: float) -> float:
        options = BlockOptions(0.5, (8, 8), SecondOrder(power))
        found = block_prune_model(model, options, BATCHES)
        wide = [layer for layer in found.layers if layer.path.endswith("fc2")]
        return sum(layer.gone / layer.blocks for layer in wide)

    assert gone(4.0) > gone(0.0)


def test_channels_that_nothing_reads_go_and_the_output_stays() -> None:
    model = transformer()
    first: Tensor = model.module.get_submodule("blocks.0.mlp.fc2").get_parameter("weight")
    second: Tensor = model.module.get_submodule("blocks.1.attn.proj").get_parameter("weight")
    first[:, 32:64] = 0
    second[:, :16] = 0
    smaller, gone = without_unread(model)
    assert gone == {"blocks.0.mlp.fc1": 32, "blocks.1.attn.qkv": 1}
    assert smaller.get_submodule("blocks.1.attn.qkv").out_features == 48
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)


def test_zeros_stay_zeros_in_training(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    model = transformer()
    options = BlockOptions(0.5, (16, 16), Magnitude())
    found = block_prune_model(model, options, BATCHES)
    inputs = Inputs(IMAGES, lambda stacked: stacked)
    trained = recovered(found, model, inputs, 3, [IMAGES], run=tmp_path / "run")
    assert trained.untrained == found.quality
    for layer in found.layers:
        was, now = (
            one.model.module.get_submodule(layer.path).get_parameter("weight")
            for one in (found, trained)
        )
        assert torch.equal(was == 0, now == 0)
        assert not torch.equal(was, now)


def test_edgekit_prune_takes_blocks_and_refuses_what_has_none() -> None:
    sparse = edgekit.prune(transformer(), BlockOptions(0.5, (16, 16)), [IMAGES])
    assert sparse(IMAGES).shape == (8, 4)
    convolution = model_of_module(nn.Conv2d(3, 8, 1), IMAGES[:1])
    with pytest.raises(UsageError, match="no linear layer of at least two blocks of 32x32"):
        edgekit.prune(convolution, BlockOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BlockOptions(keep=1.0),
        lambda: BlockOptions(block=(1, 32)),
        lambda: SecondOrder(power=-1.0),
        lambda: SecondOrder(least=1.0),
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        wrong()
