"""Weights without their zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgekit
from edgekit.backends.coreml.describe import describe


def weights_of(package: Path) -> int:
    return next(package.rglob("weight.bin")).stat().st_size


def test_a_package_does_not_hold_the_zeros_of_a_weight_and_computes_the_same(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).eval()
    given = torch.randn(1, 8, 64)
    sizes = []
    for name in ("dense", "sparse"):
        bundle = edgekit.export(network, (given,), target="coreml", output=tmp_path / name)
        package = bundle.path / str(bundle.manifest["model"])
        sizes.append(weights_of(package))
        with torch.no_grad():
            network[0].weight[:, 16:] = 0
            network[2].weight[8:] = 0
    assert sizes[1] < 0.35 * sizes[0]
    kinds = [kind for kind in describe(package).weight_bytes if "sparse_to_dense" in kind]
    assert kinds
    (found,) = edgekit.run(bundle, given.numpy())
    with torch.no_grad():
        expected = network(given).numpy()
    np.testing.assert_allclose(found, expected, atol=5e-3)
