"""Detectors of every family go to both formats as plain modules, at a size that is no square."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_detectors import FAMILIES, TINY_CODENET, Detector
from torch import nn

import edgekit
from edgekit.compress.codenet_w4a8 import quantised_codenet, settled
from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig


def lively(network: CoDeNet) -> CoDeNet:
    """Dilations that differ between pixels, and peaks that are no near ties."""
    for index in (0, 4, 8):
        nn.init.normal_(network.deconv_layers[index].conv_scale.weight)
    for head in (network.hm, network.wh, network.reg):
        nn.init.normal_(head[6].weight)
    return network


def quantised() -> CoDeNet:
    network = quantised_codenet(lively(CoDeNet(TINY_CODENET)).eval())
    network.raw(torch.rand(1, 3, 64, 96))
    return settled(network)


WHOLE = CoDeNetConfig(**{**vars(TINY_CODENET), "whole_offsets": True})
NETWORKS: dict[str, Callable[[], Detector]] = {
    **FAMILIES,
    "codenet": lambda: lively(CoDeNet(TINY_CODENET)),
    "codenet-whole": lambda: lively(CoDeNet(WHOLE)),
    "codenet-w4a8": quantised,
}


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "-" in name else ()) for name in NETWORKS],
)
def test_a_detector_is_written_and_its_file_computes_the_same(
    name: str, target: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    image = torch.rand(1, 3, 64, 96)
    bundle = edgekit.export(
        network, image, target=target, precision="fp32", output=tmp_path / "b",
        simplify=False, verify=False,
    )  # fmt: skip
    boxes, scores = (torch.from_numpy(x) for x in edgekit.run(bundle, image.numpy()))
    expected_boxes, expected_scores = network(image)
    off = (boxes - expected_boxes).abs().amax(dim=2).flatten()
    differ = (scores - expected_scores).abs().amax(dim=2).flatten()
    # One activation that lies next to a step may be rounded to the other side: then many differ a bit.
    share = 0.9 if name.endswith("w4a8") else 1.0
    assert (off < 1e-2).float().mean() >= share
    assert (differ < 1e-4).float().mean() >= share
