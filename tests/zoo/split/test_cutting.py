from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.zoo.inverted_residual import InvertedResidualConfig, InvertedResidualNetwork
from edgekit.zoo.split.cutting import cut, layers_to_cut_at

IMAGE = torch.rand(2, 3, 24, 40)


class Skips(nn.Module):
    """first -> second -> third, and first is added to third; `shared` runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.shared = nn.ReLU()
        self.last = nn.Conv2d(3, 2, 1)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        first = self.shared(self.first(x) * self.scale)
        return self.last(self.shared(self.third(self.second(first)) + first)) * self.scale


def mobile() -> InvertedResidualNetwork:
    torch.manual_seed(0)
    blocks = ((3, 0, 8, 1, 1), (3, 2, 8, 2, 3))
    return InvertedResidualNetwork(InvertedResidualConfig(8, blocks, 16, 5, "relu6")).eval()


def test_behind_every_layer_offered_the_two_parts_are_the_network() -> None:
    network = mobile()
    layers = layers_to_cut_at(network)
    assert {"features.0", "features.0.1", "features.3", "features.5", "classifier.0"} <= set(layers)
    for layer in layers:
        front, back = cut(network, layer)
        assert torch.equal(back(front(IMAGE)), network(IMAGE)), layer


def test_a_layer_inside_a_residual_block_is_not_offered_and_its_neighbours_are_named() -> None:
    network = mobile()
    assert "features.3.conv.0" not in layers_to_cut_at(network)
    with pytest.raises(
        UsageError,
        match=r"behind 'features\.3\.conv\.0': .*output of 'features\.2' .* 'features\.3'",
    ):
        cut(network, "features.3.conv.0")


def test_a_network_that_is_not_a_chain_is_cut_where_one_tensor_crosses() -> None:
    network = Skips()
    assert layers_to_cut_at(network) == ["first", "last"]
    front, back = cut(network, "first")
    torch.testing.assert_close(back(front(IMAGE)), network(IMAGE))
    with pytest.raises(
        UsageError, match=r"'second': .*output of 'shared' would .* behind 'first' or 'last'"
    ):
        cut(network, "second")


def test_a_layer_that_runs_twice_or_never_is_refused() -> None:
    with pytest.raises(UsageError, match="'shared', which runs 2 times"):
        cut(Skips(), "shared")


def test_an_unknown_layer_gets_the_nearest_names() -> None:
    with pytest.raises(UsageError, match=r"no layer 'feature\.3' .* the nearest: features\.3"):
        cut(mobile(), "feature.3")


def test_a_forward_that_branches_on_values_is_refused_in_a_sentence() -> None:
    class Branches(Skips):
        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) if x.sum() > 0 else self.second(x)

    with pytest.raises(UsageError, match="branches on values or shapes"):
        cut(Branches(), "first")


def test_parts_share_modules_and_paths_with_the_network() -> None:
    network = mobile()
    front, back = cut(network, "features.2")
    assert front.get_submodule("features.1") is network.features[1]
    assert back.get_submodule("features.4") is network.features[4]
    assert not any(name.startswith("features.1.") for name in back.state_dict())
