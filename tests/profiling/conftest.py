"""Bundles of a small network that every test of profiles may read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import edgekit


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ONNX file."""
    folder = tmp_path_factory.mktemp("profiled") / "small"
    edgekit.export(network(), torch.rand(1, 3, 32, 32), output=folder, simplify=False)
    return folder


@pytest.fixture(scope="session")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of 2 x 2 tiles."""
    folder = tmp_path_factory.mktemp("profiled") / "tiled"
    edgekit.export(network(), torch.rand(1, 3, 32, 32), output=folder, tiles="2x2", simplify=False)
    return folder


@pytest.fixture(scope="session")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of pictures of 16 x 20, five classes, cut behind features.1 with 8-bit codes."""
    from small_classifier import RECIPE

    from edgekit.split_exporting import SplitOptions, export_split, split_network
    from edgekit.target import find_target

    folder = tmp_path_factory.mktemp("profiled")
    (folder / "small.toml").write_text(RECIPE)
    torch.manual_seed(0)
    model = edgekit.load(str(folder / "small.toml"))
    network = split_network(model, "features.1", [torch.randn(1, 3, 16, 20) for _ in range(3)])
    options = SplitOptions(simplify=False, verify=False)
    place = folder / "halved"
    export_split(model, network, "features.1", find_target("onnx"), place, options)
    return place
