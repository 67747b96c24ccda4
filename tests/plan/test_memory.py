"""Liveness against a slow reference that follows references, and the exceptions one by one."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, timeline
from edgekit.plan.network import Network, network_of
from edgekit.program.capture import capture


class Net(nn.Module):
    """A random graph of 1x1 convolutions over random earlier values, joined by cat."""

    def __init__(self, links: list[tuple[int, int]]) -> None:
        super().__init__()
        self.links = links
        self.convs = nn.ModuleList(nn.LazyConv2d(out, 1) for _, out in links)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for (source, _), conv in zip(self.links, self.convs, strict=True):
            values.append(conv(values[source % len(values)]))
        return torch.cat([values[-1], values[len(values) // 2]], 1)


def planned(module: nn.Module, *x: Tensor) -> Network:
    with torch.no_grad():
        module(*x)
    return network_of(capture(module.eval(), x).program)


def slow_live_bytes(network: Network) -> list[int]:
    """At each step, what exists and is still read now or later, counted tensor by tensor."""
    live = []
    for step, _ in enumerate(network.nodes):
        total = 0
        for made, node in enumerate(network.nodes):
            reads = [network.nodes.index(reader) for reader in network.readers[node]]
            until = max([made, *reads])
            if node in network.outputs:
                until = len(network.nodes)
            if made <= step <= until:
                total += 4 * prod(shape(node))
        live.append(total)
    return live


@settings(deadline=None, max_examples=25)
@given(links=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=7))
def test_live_bytes_are_those_of_a_slow_count(links: list[tuple[int, int]]) -> None:
    network = planned(Net(links), torch.randn(1, 3, 4, 4))
    steps = timeline(network, MemoryModel()).steps
    assert [step.live_bytes for step in steps] == slow_live_bytes(network)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.thin = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.thin(torch.relu(self.depthwise(self.wide(x))))


def live(module: nn.Module, model: MemoryModel) -> list[int]:
    network = planned(module, torch.randn(1, 4, 10, 10))
    return [step.live_bytes // 100 for step in timeline(network, model).steps]


def test_a_residual_waits_and_an_activation_overwrites_its_input() -> None:
    # input, wide, depthwise, relu in place, thin, add in place
    assert live(Block(), MemoryModel(1)) == [4, 20, 36, 20, 24, 8]


def test_a_depthwise_convolution_may_overwrite_its_input() -> None:
    assert live(Block(), MemoryModel(1, depthwise_in_place=True)) == [4, 20, 20, 20, 24, 8]


def test_a_convolution_may_accumulate_onto_what_it_is_added_to() -> None:
    assert live(Block(), MemoryModel(1, adds_in_place=True)) == [4, 20, 36, 20, 20, 4]


def test_a_value_that_is_read_later_is_not_overwritten() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.relu(x), x], 1)

    assert live(Twice(), MemoryModel(1)) == [4, 8, 16]


def test_views_share_the_memory_of_what_they_show() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.reshape(1, 4, 100)).flatten(1)

    assert set(live(Flat(), MemoryModel(1))) == {4}


def test_elements_may_be_of_one_two_or_four_bytes() -> None:
    peaks = [max(live(Block(), MemoryModel(count))) for count in (1, 2, 4)]
    assert peaks == [36, 72, 144]
