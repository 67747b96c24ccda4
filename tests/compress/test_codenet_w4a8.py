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
from tiny_detectors import TINY_CODENET
from torch import Tensor

from edgekit.compress.codenet_w4a8 import W4A8, observe, quantised_codenet, quantisers, settled
from edgekit.detection.losses_centres import CentreLoss
from edgekit.detection.targets import Target
from edgekit.errors import UsageError
from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig


def ruled_network(variant: str) -> tuple[CoDeNet, Any]:
    stored = np.load(GOLDEN / f"codenet_1x_{variant}.npz")
    network = CoDeNet(CoDeNetConfig(**architecture(f"codenet-{variant}"))).eval()
    counters = {key: value for key, value in network.state_dict().items() if "num_batches" in key}
    network.load_state_dict({**counters, **ruled_weights(shapes_in(stored))}, strict=True)
    return network.double(), ruled_image(f"codenet_1x_{variant}", stored).double()


@pytest.mark.parametrize("variant", ["a", "b"])
def test_the_quantised_network_equals_the_official_one(variant: str) -> None:
    golden = np.load(GOLDEN / f"codenet_1x_{variant}_w4a8.npz")
    network, image = ruled_network(variant)
    percentile = variant == "b"
    assert percentile == bool(golden.get("weight_percentile", 0))
    quantised = quantised_codenet(network, W4A8(weight_percentile=percentile)).double()
    results: dict[str, Tensor] = {}
    watched = {
        "layer0": quantised.layer0[2], "layer1": quantised.layer1, "layer3": quantised.layer3,
        **{f"scale{index}": quantised.deconv_layers[4 * index].bound for index in range(3)},
    }  # fmt: skip
    if variant == "b":
        watched["layer0"] = quantised.layer0
    for name, module in watched.items():
        module.register_forward_hook(
            lambda module, given, made, name=name: results.__setitem__(name, made)
        )
    with torch.no_grad():
        quantised.raw(image)
        observe(quantised, on=False)
        results["hm"], results["wh"], results["reg"] = quantised.raw(image)
    ranges = torch.stack(sorted((q.range for q in quantisers(quantised)), key=torch.Tensor.tolist))
    expected = torch.from_numpy(np.array(sorted(golden["act_ranges"].tolist())))
    torch.testing.assert_close(ranges, expected, rtol=1e-9, atol=1e-12)
    for name, result in results.items():
        assert worst_difference(result, golden, name) < 1e-6, name
    assert len(results) == 9


def test_the_original_stays_as_it_was() -> None:
    network = CoDeNet(TINY_CODENET).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    quantised = quantised_codenet(network)
    quantised.raw(torch.randn(1, 3, 64, 64))
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_quantised_network_is_tuned_and_its_norms_stay_frozen() -> None:
    torch.manual_seed(0)
    network = quantised_codenet(CoDeNet(TINY_CODENET)).train()
    means = {key: value.clone() for key, value in network.named_buffers() if "running" in key}
    images = torch.randn(2, 3, 64, 64)
    targets = [Target(torch.tensor([[10.0, 10, 40, 50]]), torch.tensor([1]))] * 2
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    totals = []
    for _ in range(25):
        optimiser.zero_grad()
        losses = CentreLoss()(network.raw(images), targets, (64, 64))
        losses.total.backward()
        optimiser.step()
        totals.append(losses.total.item())
    assert totals[-1] < 0.6 * totals[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert means
    assert all(torch.equal(means[key], dict(network.named_buffers())[key]) for key in means)


@torch.no_grad()
def test_a_settled_network_computes_the_same_with_ordinary_layers() -> None:
    torch.manual_seed(0)
    network = quantised_codenet(CoDeNet(TINY_CODENET).eval()).double()
    with pytest.raises(UsageError, match="has seen no input yet"):
        settled(network)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    network.raw(image)
    observe(network, on=False)
    finished = settled(network)
    for mine, expected in zip(finished.raw(image), network.raw(image)):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-9)
    assert not list(quantisers(finished))
    weight = finished.layer1[1].b2[0].weight
    assert max(len(channel.unique()) for channel in weight) <= 16
