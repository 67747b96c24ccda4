"""Rules around the pixel shuffle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import UsageError
from edgekit.program.capture import capture
from edgekit.program.rule import Decision, Rule, rewrite
from edgekit.program.rules import rules
from edgekit.program.rules.activation_before_shuffle import ActivationBeforeShuffle
from edgekit.program.rules.blocked_layout_entry import BlockedLayoutEntry
from edgekit.program.rules.channels_last_shuffle import ChannelsLastShuffle
from edgekit.program.rules.convolve_before_shuffle import ConvolveBeforeShuffle, kernel_on_cells
from edgekit.program.rules.two_move_shuffle import TwoMoveShuffle


class Tail(nn.Module):
    """Shuffle, activation, convolution: the end of a decoder."""

    def __init__(self, outputs: int = 3, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(F.pixel_shuffle(x, 2)))


def operators_after(
    module: nn.Module, x: Tensor, *applied: Rule
) -> tuple[list[str], list[Decision], float]:
    """Operators of the rewritten program, decisions, and its largest difference from the module."""
    program, decisions = rewrite(capture(module, (x,)).program, list(applied))
    difference = (program.exported.module()(x) - module(x)).abs().max().item()
    operators = [
        str(node.target).split(".")[1]
        for node in program.exported.graph.nodes
        if node.op == "call_function"
    ]
    return operators, decisions, difference


def test_an_activation_moves_in_front_of_the_shuffle() -> None:
    x = torch.randn(2, 8, 3, 5)
    operators, _, difference = operators_after(Tail(), x, ActivationBeforeShuffle())
    assert operators == ["relu", "pixel_shuffle", "conv2d"]
    assert difference == 0


def test_a_thin_convolution_runs_on_cells_and_the_picture_is_shuffled_last() -> None:
    x = torch.randn(2, 8, 3, 5)
    operators, _, difference = operators_after(
        Tail(), x, ActivationBeforeShuffle(), ConvolveBeforeShuffle()
    )
    assert operators == ["relu", "conv2d", "pixel_shuffle"]
    assert difference < 1e-6


def test_a_wide_convolution_stays_behind_the_shuffle_with_a_reason() -> None:
    x = torch.randn(1, 8, 3, 5)
    operators, decisions, _ = operators_after(
        Tail(outputs=16), x, ActivationBeforeShuffle(), ConvolveBeforeShuffle()
    )
    assert operators == ["relu", "pixel_shuffle", "conv2d"]
    assert "16 output channels" in decisions[-1].reason


def test_a_shuffle_that_others_read_is_left_where_it_is() -> None:
    class Shared(Tail):
        def forward(self, x: Tensor) -> Tensor:
            pixels = F.pixel_shuffle(x, 2)
            return self.conv(pixels) + pixels.mean()

    _, decisions, difference = operators_after(
        Shared(), torch.randn(1, 8, 3, 5), ConvolveBeforeShuffle()
    )
    assert decisions[0].reason == "others read the shuffled tensor too"
    assert difference == 0


def test_a_bias_that_the_graph_computes_is_not_lost() -> None:
    weight = torch.randn(3, 2, 3, 3)

    class Biased(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(F.pixel_shuffle(x, 2), weight, x.mean((0, 2, 3))[:3], padding=1)

    operators, decisions, difference = operators_after(
        Biased(), torch.randn(1, 8, 3, 5), ConvolveBeforeShuffle()
    )
    assert decisions == []
    assert operators[-1] == "conv2d"
    assert difference == 0


def test_a_shuffle_by_more_than_two_stays_in_front() -> None:
    class ByFour(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.pixel_shuffle(x, 4))

    _, decisions, _ = operators_after(ByFour(), torch.randn(1, 32, 3, 5), ConvolveBeforeShuffle())
    assert "shuffles by 4" in decisions[0].reason


@settings(deadline=None, max_examples=40)
@given(
    factor=st.integers(2, 4),
    kernel=st.sampled_from([1, 3, 5, 7]),
    channels=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_the_kernel_on_cells_equals_the_kernel_on_pixels(
    factor: int, kernel: int, channels: int, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(kernel * 100 + factor)
    weight = torch.randn(2, channels, kernel, kernel, dtype=torch.double, generator=generator)
    x = torch.randn(1, channels * factor**2, height, width, dtype=torch.double, generator=generator)
    expected = F.conv2d(F.pixel_shuffle(x, factor), weight, padding=kernel // 2)
    cells = kernel_on_cells(weight, factor)
    found = F.pixel_shuffle(F.conv2d(x, cells, padding=cells.shape[-1] // 2), factor)
    torch.testing.assert_close(found, expected)


@settings(deadline=None, max_examples=10)
@given(
    factor=st.integers(2, 3),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
)
def test_two_moves_shuffle_exactly(
    factor: int, batch: int, channels: int, height: int, width: int
) -> None:
    x = torch.randn(batch, channels * factor**2, height, width)
    operators, _, difference = operators_after(nn.PixelShuffle(factor), x, TwoMoveShuffle())
    assert "pixel_shuffle" not in operators
    assert difference == 0


class ShuffledBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(x, 2)
        return x + self.conv(x)


def test_a_residual_block_behind_a_shuffle_enters_the_blocked_layout_once() -> None:
    x = torch.randn(1, 8, 3, 5)
    operators, _, difference = operators_after(
        ShuffledBlock(), x, TwoMoveShuffle(), BlockedLayoutEntry()
    )
    assert operators.count("max_pool2d") == 1
    assert operators[-2:] == ["conv2d", "add"]
    assert difference == 0


def test_a_convolution_without_a_residual_needs_no_entry() -> None:
    operators, decisions, _ = operators_after(
        Tail(), torch.randn(1, 8, 3, 5), TwoMoveShuffle(), BlockedLayoutEntry()
    )
    assert "max_pool2d" not in operators
    assert all(decision.rule != "blocked-layout-entry" for decision in decisions)


def test_an_unknown_rule_in_a_target_is_named() -> None:
    with pytest.raises(UsageError, match="'fast'; there are convolve-before-shuffle"):
        rules(half=False, runtime=["fast"])


class Upsampler(nn.Module):
    """Convolution, activation, shuffle."""

    def __init__(self, channels: int, factor: int, bias: bool, groups: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(4, channels * factor**2, 3, padding=1, bias=bias, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.leaky_relu(self.conv(x), 0.2), self.factor)


@settings(deadline=None, max_examples=10)
@given(
    factor=st.integers(2, 3),
    batch=st.integers(1, 3),
    channels=st.integers(16, 18),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    bias=st.booleans(),
)
def test_a_convolution_with_sorted_filters_is_shuffled_in_one_move(
    factor: int, batch: int, channels: int, height: int, width: int, bias: bool
) -> None:
    module = Upsampler(channels, factor, bias)
    operators, _, difference = operators_after(
        module, torch.randn(batch, 4, height, width), ChannelsLastShuffle()
    )
    assert operators[:2] == ["conv2d", "leaky_relu"]
    assert "pixel_shuffle" not in operators
    assert operators.count("permute") == 3  # out of channels-first order, rows, and back
    assert difference < 1e-5


def test_a_thin_picture_is_not_shuffled_in_channels_last_order() -> None:
    operators, decisions, _ = operators_after(
        Upsampler(3, 2, bias=True), torch.randn(1, 4, 3, 5), ChannelsLastShuffle()
    )
    assert "pixel_shuffle" in operators
    assert "it pays from 16 on" in decisions[0].reason


def test_filters_of_groups_keep_their_order() -> None:
    operators, decisions, _ = operators_after(
        Upsampler(16, 2, bias=True, groups=2), torch.randn(1, 4, 3, 5), ChannelsLastShuffle()
    )
    assert "pixel_shuffle" in operators
    assert not decisions
