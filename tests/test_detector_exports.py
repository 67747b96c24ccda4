"""Detectors of every family go to both formats as plain modules, at a size that is no square."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_detectors import FAMILIES, TINY_CODENET, Detector
from torch import nn

import edgekit
from edgekit.compress.codenet_w4a8 import observe, quantised_codenet
from edgekit.zoo.codenet import CoDeNet, CoDeNetConfig


def quantised() -> CoDeNet:
    network = quantised_codenet(CoDeNet(TINY_CODENET).eval())
    network.raw(torch.rand(1, 3, 64, 96))
    observe(network, on=False)
    return network


NETWORKS: dict[str, Callable[[], Detector]] = {
    **FAMILIES,
    "codenet-whole": lambda: CoDeNet(
        CoDeNetConfig(**{**vars(TINY_CODENET), "whole_offsets": True})
    ),
    "codenet-w4a8": quantised,
}


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_detector_is_written_and_its_file_computes_the_same(
    name: str, target: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    if isinstance(network, CoDeNet):  # dilations that differ, and peaks that are no near ties
        for index in (0, 4, 8):
            scale = network.deconv_layers[index].conv_scale
            nn.init.normal_(
                scale.get_parameter("conv.weight" if name.endswith("w4a8") else "weight")
            )
        for head in (network.hm, network.wh, network.reg):
            last = head[6]
            nn.init.normal_(
                last.get_parameter("conv.weight" if name.endswith("w4a8") else "weight")
            )
    image = torch.rand(1, 3, 64, 96)
    bundle = edgekit.export(
        network, image, target=target, precision="fp32", output=tmp_path / "b", simplify=False
    )
    boxes, scores = edgekit.run(bundle, image.numpy())
    expected_boxes, expected_scores = network(image)
    torch.testing.assert_close(torch.from_numpy(boxes), expected_boxes, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(torch.from_numpy(scores), expected_scores, rtol=1e-4, atol=1e-5)
