"""A small classifier, cut with each of the three ways of coding."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.model import Model, model_of_module
from edgekit.split.of_network import make_tables
from edgekit.split_exporting import split_network
from edgekit.zoo.split.attach import attach
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.network import SplitNetwork

SIDE = 16
CLASSES = 7


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU6())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU6())
        self.last = nn.Linear(8, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(image)).mean((2, 3)))


def classifier() -> Model:
    torch.manual_seed(0)
    return model_of_module(Classifier(), torch.randn(1, 3, SIDE, SIDE), "tiny")


def entropy() -> SplitNetwork:
    """Five channels in the place of `first`, trained to lose all but two; symbols up to some tens."""
    model = classifier()
    encoder = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1))
    decoder = nn.Sequential(nn.Conv2d(5, 6, 1))
    nn.init.normal_(encoder[0].weight, std=3)
    network = attach(model.module, Bottleneck(encoder, decoder, 5), ends="first", least_kept=2)
    prior = network.head.quantiser
    assert isinstance(prior, FactorisedPrior)
    with torch.no_grad():
        prior.quantiles.add_(torch.linspace(-0.4, 0.4, 5)[:, None, None])
    make_tables(prior, bisect=False)
    return network.eval().requires_grad_(False)


def networks() -> dict[str, SplitNetwork]:
    model = classifier()
    pictures = [torch.randn(1, 3, SIDE, SIDE) for _ in range(3)]
    return {
        "entropy": entropy(),
        "calibrated": split_network(model, "first", pictures),
        "dynamic": split_network(classifier(), "first", None),
    }
