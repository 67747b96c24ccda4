from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_detectors import (
    GOLDEN,
    architecture,
    ruled_image,
    ruled_weights,
    shapes_in,
    worst_difference,
)
from torch import Tensor

from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig, decode_peaks
from edgekit.zoo.cost import cost_of


def network_of(variant: str, **changes: Any) -> CoDeNet:
    return CoDeNet(CoDeNetConfig(**{**architecture(f"codenet-{variant}"), **changes})).eval()


def filled(variant: str, golden: Any) -> CoDeNet:
    network = network_of(variant)
    own = network.state_dict()
    counters = {key: value for key, value in own.items() if "num_batches" in key}
    network.load_state_dict({**counters, **ruled_weights(shapes_in(golden))}, strict=True)
    return network


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("variant", ["a", "b"])
def test_the_network_equals_the_official_one(variant: str, double: bool) -> None:
    golden = np.load(GOLDEN / f"codenet_1x_{variant}.npz")
    network, image = filled(variant, golden), ruled_image(f"codenet_1x_{variant}", golden)
    if double:
        network, image = network.double(), image.double()
    results: dict[str, Tensor] = {}
    for index in range(3):
        network.deconv_layers[4 * index].bound.register_forward_hook(
            lambda module, given, made, index=index: results.__setitem__(f"scale{index}", made)
        )
    with torch.no_grad():
        results["neck"] = network.features(image)
        results["hm"], results["wh"], results["reg"] = network.raw(image)
    for name, result in results.items():
        limit = 1e-6 if double else 2e-3 if name.startswith("scale") else 5e-3
        assert worst_difference(result, golden, name) < limit, name
    assert len(results) == 7


def test_the_best_scores_are_the_detections_of_centernet() -> None:
    golden = np.load(GOLDEN / "codenet_decode.npz")
    heat, sizes, offsets = (torch.from_numpy(golden[key]).double() for key in ("hm", "wh", "reg"))
    boxes, scores = decode_peaks(heat, sizes, offsets)
    best, places = scores[0].flatten().sort(descending=True)
    places = places[: int(golden["K"])]
    cells, classes = places // 5, places % 5
    mine = torch.cat([boxes[0, cells] / 4, best[: len(places), None], classes[:, None]], dim=1)
    assert worst_difference(mine[None], golden, "detections") < 1e-6


@pytest.mark.parametrize(
    ("variant", "classes", "parameters", "size", "gmac"),
    [
        ("a", 20, 1_588_031, 256, 0.280),
        ("b", 20, 1_588_031, 256, 0.288),
        ("c", 20, 1_588_031, 512, 1.119),
        ("d", 20, 6_082_427, 512, 3.507),
        ("e", 20, 6_082_427, 512, 3.539),
        ("c", 80, 1_591_931, 512, 1.182),
        ("d", 80, 6_086_327, 512, 3.570),
    ],
)
def test_parameters_and_macs_are_those_of_the_official_networks(
    variant: str, classes: int, parameters: int, size: int, gmac: float
) -> None:
    with torch.device("meta"):
        network = network_of(variant, classes=classes)
        boxes, scores = network(torch.empty(1, 3, size, size))
    cost = cost_of(network, (1, 3, size, size))
    assert cost.parameters == parameters
    assert cost.macs / 1e9 == pytest.approx(gmac, rel=0.005)
    assert boxes.shape == (1, (size // 4) ** 2, 4)
    assert scores.shape == (1, (size // 4) ** 2, classes)
