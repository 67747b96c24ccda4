from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fetch_assets import shared_or_skip
from golden_detectors import (
    architecture,
    ruled_image,
    ruled_weights,
    shapes_in,
    trainable,
    worst_difference,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgekit.checkpoint import load_weights
from edgekit.zoo.leyolo import LeYOLO, LeYOLOConfig

TINY = LeYOLOConfig(width=0.25, blocks=(1, 1, 1), neck_blocks=3, wiring="fixed", classes=3)


def golden_file(name: str) -> Any:
    return np.load(shared_or_skip(f"golden/detectors/{name}.npz"))


def network_of(variant: str, **changes: Any) -> LeYOLO:
    return LeYOLO(LeYOLOConfig(**{**architecture(f"leyolo-{variant}"), **changes})).eval()


def centres_and_sizes(boxes: Tensor) -> Tensor:
    """N A 4 corners to N 4 A centre and size, as the official program gives them."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=1)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("variant", ["nano", "small", "medium"])
def test_the_network_equals_the_official_one(variant: str, double: bool) -> None:
    golden = golden_file(f"leyolo_{variant}")
    network = network_of(variant)
    weights = ruled_weights(shapes_in(golden))
    bins = {key: value for key, value in network.state_dict().items() if "dfl" in key}
    network.load_state_dict({**counters(network), **bins, **weights}, strict=True)
    image = ruled_image(f"leyolo_{variant}", golden)
    if double:
        network, image = network.double(), image.double()
    with torch.no_grad():
        maps = network.raw(image)
        boxes, scores = network(image)
    for level, x in zip(("raw_p3", "raw_p4", "raw_p5"), maps):
        assert worst_difference(x, golden, level) < (1e-6 if double else 3e-5), level
    expected = torch.from_numpy(golden["decoded"]).double()
    off = (centres_and_sizes(boxes).double() - expected[:, :4]).abs().max().item()
    assert off < (1e-3 if double else 0.5 if variant == "medium" else 0.1)
    off = (scores.transpose(1, 2).double() - expected[:, 4:]).abs().max().item()
    assert off < (1e-5 if double else 2e-3)


@pytest.mark.parametrize("variant", ["nano", "small", "medium"])
def test_the_bins_are_a_weight_that_loads(variant: str) -> None:
    golden = golden_file(f"leyolo_{variant}")
    network = network_of(variant)
    shapes = shapes_in(golden)
    key = next(key for key in network.state_dict() if "dfl" in key)
    weights = ruled_weights({**shapes, key: (1, 16, 1, 1)})
    network.load_state_dict({**weights, **counters(network)}, strict=True)
    with torch.no_grad():
        boxes, _ = network.double()(ruled_image(f"leyolo_{variant}", golden).double())
    expected = torch.from_numpy(golden["decoded_boxes_rule_dfl"]).double()
    assert (centres_and_sizes(boxes) - expected).abs().max().item() < 1e-3


def counters(network: LeYOLO) -> dict[str, Tensor]:
    """Of batches seen by each norm: not in the golden files."""
    return {key: value for key, value in network.state_dict().items() if "num_batches" in key}


def test_decoding_equals_the_official_one() -> None:
    golden = golden_file("leyolo_decode")
    maps = [torch.from_numpy(golden[f"raw_{level}"]).double() for level in ("p3", "p4", "p5")]
    network = network_of("nano").double()
    network.raw = lambda images: maps  # type: ignore[method-assign]
    boxes, scores = network(torch.empty(0))
    mine = torch.cat([centres_and_sizes(boxes), scores.transpose(1, 2)], dim=1)
    assert worst_difference(mine, golden, "decoded") < 1e-6


@pytest.mark.parametrize(
    ("variant", "changes", "parameters", "macs"),
    [
        ("nano", {}, 1_120_480, {320: 0.308, 480: 0.693, 640: 1.232}),
        ("nano", {"classes": 20}, 1_090_348, {}),
        ("small", {}, 1_917_440, {320: 0.533, 480: 1.199, 640: 2.131}),
        ("small", {"classes": 20}, 1_890_188, {}),
        ("medium", {}, 2_402_744, {640: 2.755}),
        ("large", {}, 2_402_744, {768: 3.967}),
        ("medium", {"wiring": "fixed"}, 2_388_920, {640: 2.795}),
        ("large", {"wiring": "fixed"}, 2_388_920, {768: 4.024}),
    ],
)
def test_parameters_and_macs_are_those_of_the_published_networks(
    variant: str, changes: dict[str, Any], parameters: int, macs: dict[int, float]
) -> None:
    with torch.device("meta"):
        network = network_of(variant, **changes)
        for size, gmac in macs.items():
            with FlopCounterMode(display=False) as counter:
                boxes, scores = network(torch.empty(1, 3, size, size))
            assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, rel=0.002)
            cells = sum((size // stride) ** 2 for stride in (8, 16, 32))
            assert boxes.shape == (1, cells, 4)
            assert scores.shape == (1, cells, 80)
    assert trainable(network.parameters()) == parameters


def test_as_released_four_blocks_of_medium_learn_nothing_and_as_fixed_all_do() -> None:
    idle = {}
    for wiring in ("released", "fixed"):
        network = network_of("medium", wiring=wiring).train()
        sum(x.sum() for x in network.raw(torch.rand(2, 3, 64, 64))).backward()
        idle[wiring] = {
            name.split(".")[1]
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        }
        count = sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if name.split(".")[1] in idle[wiring]
        )
        assert count == (298_072 if wiring == "released" else 0)
    assert idle == {"released": {"38", "39", "40", "41"}, "fixed": set()}


def test_new_heads_expect_five_objects_in_a_picture_of_640() -> None:
    torch.manual_seed(0)
    network = LeYOLO(TINY).eval()
    for parameter in (branch[-1].weight for branch in network.head.cv3):
        torch.nn.init.zeros_(parameter)
    _, scores = network(torch.zeros(1, 3, 640, 640))
    assert scores.sum().item() == pytest.approx(15, rel=0.01)  # five per level


def test_other_sizes_than_squares_work() -> None:
    boxes, scores = LeYOLO(TINY).eval()(torch.rand(2, 3, 64, 96))
    assert boxes.shape == (2, 96 + 24 + 6, 4)
    assert scores.shape == (2, 126, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wiring": "crossed"}, "wiring must be .released. or .fixed., and is 'crossed'"),
        ({"neck_blocks": 5}, "neck_blocks must be 3 or 4, and is 5"),
        ({"classes": 0}, "must be above 0"),
    ],
)
def test_a_configuration_that_does_not_fit_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network_of("nano", **changes)


def test_a_user_s_checkpoint_with_published_keys_loads_from_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, fresh = LeYOLO(TINY), LeYOLO(TINY)
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in trained.state_dict().items()
    }
    assert {"model.0.c.weight", "model.0.bn.running_var", "model.2.layers.1.bias"} <= set(state)
    torch.save({"epoch": 7, "model": state}, tmp_path / "mine.pt")
    load_weights(fresh, tmp_path / "mine.pt")
    assert all(torch.equal(fresh.state_dict()[key], value.float()) for key, value in state.items())
