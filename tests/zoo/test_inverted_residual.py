from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.recipe import find_recipe
from edgekit.zoo.cost import network_cost
from edgekit.zoo.families import build_network
from edgekit.zoo.inverted_residual import (
    InvertedResidualConfig,
    InvertedResidualNetwork,
    in_eights,
    mobilenet_v2,
)

SMALL = InvertedResidualConfig(8, ((3, 0, 6, 1, 1), (5, 3, 6, 1, 2), (7, 2, 10, 2, 2)), 16, 4, "relu")  # fmt: skip


def worst_operator(name: str, *, depthwise_in_place: bool, skips: bool = False) -> int:
    """Most values held by one convolution, input and output; the network's own input is not held.

    `skips` adds the block's input where it is still to be added to the output.
    """
    recipe = find_recipe(name)
    held: list[int] = []
    inputs: dict[str, int] = {}
    network = build_network(recipe).eval().to("meta")
    blocks = dict(network.named_modules())

    def measure(key: str, conv: nn.Conv2d, given: Tensor, made: Tensor) -> None:
        first = not held
        in_place = depthwise_in_place and conv.groups > 1
        held.append(max(given.numel(), made.numel()) if in_place else given.numel() + made.numel())
        if first:
            held[-1] = made.numel()
        block = ".".join(key.split(".")[:2])
        inputs.setdefault(block, given.numel())
        if skips and getattr(blocks[block], "adds_input", False) and given.numel() != inputs[block]:
            held[-1] += inputs[block]

    for key, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda conv, given, made, key=key: measure(key, conv, given[0], made)
            )
    network(torch.empty(recipe.specs(None, None, None)[0].shape, device="meta"))
    return max(held)


@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [("mobilenet-v2-0.35-msf", 194.4), ("mcunet-vww1", 96.0), ("mcunet-in3", 309.76)],
)
def test_the_peak_before_tiling_is_what_msf_cnn_states(name: str, kilobytes: float) -> None:
    """int8, input plus output of the worst operator, depthwise out of place, skips not held."""
    assert worst_operator(name, depthwise_in_place=False) == round(kilobytes * 1000)


def test_the_peak_of_mobilenet_v2_is_what_mcunet_v2_states() -> None:
    """int8 with the depthwise in place: 16 + 96 channels at 112x112."""
    assert worst_operator("mobilenet-v2", depthwise_in_place=True) == 1372 * 1024
    assert worst_operator("mobilenet-v2", depthwise_in_place=False) == 1470 * 1024


def test_the_activations_of_mcunet_are_what_its_zoo_states() -> None:
    """333 kB with the skip held: 80 + 80 + 16 channels at 44x44."""
    held = worst_operator("mcunet-in3", depthwise_in_place=False, skips=True)
    assert round(held / 1024) == 333


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mobilenet-v2", 300.8),
        ("mobilenet-v2-0.35-mcunet", 23.5),
        ("mnasnet-b1", 314.4),
        ("proxyless-mobile", 320.4),
        ("mcunet-in2", 67.3),
        ("mcunet-in3", 81.8),
        ("mcunet-vww1", 11.6),
    ],
)
def test_the_macs_are_the_published_ones(name: str, millions: float) -> None:
    recipe = find_recipe(name)
    cost = network_cost(recipe, recipe.specs(None, None, None)[0].shape)
    assert cost.macs / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_macs_of_the_benchmark_are_those_that_msf_cnn_counts() -> None:
    """It leaves the last matrix product out."""
    for name, counted, last in (
        ("mobilenet-v2-0.35-msf", 18_909_490, 448 * 1000),
        ("mcunet-vww1", 11_578_496, 160 * 2),
    ):
        recipe = find_recipe(name)
        cost = network_cost(recipe, recipe.specs(None, None, None)[0].shape)
        assert cost.macs == counted + last


def test_the_state_dict_of_mobilenet_v2_is_torchvision_s() -> None:
    """Keys and shapes of mobilenet_v2-b0353104.pth, written out from torchvision's structure."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(key: str, channels: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{key}.{name}"] = (channels,)
        shapes[f"{key}.num_batches_tracked"] = ()

    def conv_norm(key: str, shape: tuple[int, ...]) -> None:
        shapes[f"{key}.0.weight"] = shape
        norm(f"{key}.1", shape[0])

    conv_norm("features.0", (32, 3, 3, 3))
    channels, index = 32, 1
    for ratio, out, repeats in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):  # fmt: skip
        for _ in range(repeats):
            block, middle, at = f"features.{index}.conv", channels * ratio, 0
            if ratio > 1:
                conv_norm(f"{block}.0", (middle, channels, 1, 1))
                at = 1
            conv_norm(f"{block}.{at}", (middle, 1, 3, 3))
            shapes[f"{block}.{at + 1}.weight"] = (out, middle, 1, 1)
            norm(f"{block}.{at + 2}", out)
            channels, index = out, index + 1
    conv_norm(f"features.{index}", (1280, 320, 1, 1))
    shapes |= {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}
    with torch.device("meta"):
        own = build_network(find_recipe("mobilenet-v2")).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == shapes
    assert len(shapes) == 314


@pytest.mark.parametrize(("channels", "rounded"), [(32 * 0.35, 16), (24 * 0.35, 8), (64 * 0.35, 24), (3, 8), (11.2, 16), (160 * 0.75, 120), (1280 * 1.4, 1792)])  # fmt: skip
def test_channels_are_rounded_to_eights_but_never_lose_a_tenth(
    channels: float, rounded: int
) -> None:
    assert in_eights(channels) == rounded


def test_the_last_convolution_is_never_narrower_than_1280() -> None:
    assert mobilenet_v2(0.35, 10).head == 1280
    assert mobilenet_v2(1.4, 10).head == 1792


def test_a_network_computes_what_its_table_says() -> None:
    torch.manual_seed(0)
    network = InvertedResidualNetwork(SMALL).eval().requires_grad_(False)
    image = torch.randn(2, 3, 21, 18)
    state = network.state_dict()

    def conv(x: Tensor, key: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{key}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        return F.batch_norm(x, state[f"{norm}.running_mean"], state[f"{norm}.running_var"], state[f"{norm}.weight"], state[f"{norm}.bias"])  # fmt: skip

    x = F.relu(conv(image, "features.0.0", "features.0.1", stride=2))
    x = F.relu(conv(x, "features.1.conv.0.0", "features.1.conv.0.1", groups=8))
    x = conv(x, "features.1.conv.1", "features.1.conv.2")
    for index, (stride, skip) in enumerate([(1, True), (1, True), (2, False), (1, True)], start=2):
        block = f"features.{index}.conv"
        h = F.relu(conv(x, f"{block}.0.0", f"{block}.0.1"))
        h = F.relu(conv(h, f"{block}.1.0", f"{block}.1.1", stride, h.shape[1]))
        h = conv(h, f"{block}.2", f"{block}.3")
        x = x + h if skip else h
    x = F.relu(conv(x, "features.6.0", "features.6.1"))
    expected = x.mean((2, 3)) @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    torch.testing.assert_close(network(image), expected)


def test_without_a_head_the_last_block_is_pooled() -> None:
    config = InvertedResidualConfig(8, ((3, 0, 6, 1, 1),), 0, 4, "relu6")
    network = InvertedResidualNetwork(config).eval()
    assert network.classifier[1].in_features == 6
    assert network(torch.randn(1, 3, 8, 8)).shape == (1, 4)


def test_random_weights_keep_a_signal_that_depends_on_the_image() -> None:
    torch.manual_seed(0)
    network = build_network(find_recipe("mcunet-in3")).eval().requires_grad_(False)
    logits = network(torch.randn(2, 3, 64, 64))
    assert 0.05 < logits.std() < 20
    assert (logits[0] - logits[1]).std() > 0.05 * logits.std()


def test_an_activation_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="must be relu or relu6, and is 'gelu'"):
        InvertedResidualNetwork(InvertedResidualConfig(8, (), 0, 2, "gelu"))
