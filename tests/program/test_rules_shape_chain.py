from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rewritten import Edited, Written
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.program.rules.frames_as_batch import FramesAsBatch
from edgekit.program.rules.shape_chain import MAX_RANK, CollapseShapeChains

Step = tuple[str, list[int]]
SHAPE_ONLY = {"reshape", "permute", "transpose", "squeeze", "unsqueeze", "clone", "view"}
cheap = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes, an example takes seconds
)


def counted(*shape: int) -> Tensor:
    """Every element differs, so that a wrong order cannot pass."""
    return torch.arange(prod(shape), dtype=torch.float64).view(shape)


def collapsed(forward: Callable[..., Any], *inputs: Tensor) -> Edited:
    edited = Edited(Written(forward), inputs, CollapseShapeChains())
    edited.assert_equal(0)
    return edited


@st.composite
def regroupings(draw: st.DrawFn, shape: list[int], max_rank: int) -> list[int]:
    """A shape of as many elements: axes merged, split or of size 1, where they were."""
    factors: list[int] = []
    for size in shape:
        while size > 1:
            factor = draw(st.sampled_from([d for d in range(2, size + 1) if size % d == 0]))
            factors.append(factor)
            size //= factor
    result: list[int] = []
    for factor in factors:
        if result and draw(st.booleans()):
            result[-1] *= factor
        else:
            result.append(factor)
    while len(result) > max_rank:
        result[-2:] = [result[-2] * result[-1]]
    if len(result) < max_rank and draw(st.booleans()):
        result.insert(draw(st.integers(0, len(result))), 1)
    return result or [1]


@st.composite
def chains(draw: st.DrawFn, max_rank: int) -> tuple[list[int], list[Step]]:
    source = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5))
    shape, steps = list(source), []
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["view", "permute", "transpose", "unsqueeze", "clone"]))
        if kind == "view":
            shape = draw(regroupings(shape, max_rank))
            steps.append((kind, shape))
        elif kind == "permute":
            order = draw(st.permutations(range(len(shape))))
            shape = [shape[axis] for axis in order]
            steps.append((kind, list(order)))
        elif kind == "transpose":
            axis = st.integers(-len(shape), len(shape) - 1)
            first, second = draw(axis), draw(axis)
            shape[first], shape[second] = shape[second], shape[first]
            steps.append((kind, [first, second]))
            shape = list(shape)
        elif kind == "unsqueeze" and len(shape) < max_rank:
            shape = [*shape, 1]
            steps.append((kind, [-1]))
        else:
            steps.append(("clone", []))
    return source, steps


def follow(x: Tensor, steps: list[Step]) -> Tensor:
    for kind, argument in steps:
        if kind == "view":
            x = x.reshape(argument)
        elif kind == "permute":
            x = x.permute(argument)
        elif kind == "transpose":
            x = x.transpose(*argument)
        elif kind == "unsqueeze":
            x = x.unsqueeze(-1)
        else:
            x = x.clone()
    return x


class Chains(nn.Module):
    """Chains of different inputs, so that one capture tries several."""

    def __init__(self, steps: list[list[Step]]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(follow(x + 0, steps) * 1 for x, steps in zip(inputs, self.steps, strict=True))


@cheap
@given(st.lists(chains(max_rank=5), min_size=8, max_size=12))
def test_a_chain_of_any_length_gets_no_longer_and_stays_equal(
    chains: list[tuple[list[int], list[Step]]],
) -> None:
    inputs = [counted(*shape) for shape, _ in chains]
    edited = Edited(Chains([steps for _, steps in chains]), inputs, CollapseShapeChains())
    edited.assert_equal(0)
    assert edited.highest_rank <= MAX_RANK
    assert len(edited.nodes) <= len(edited.nodes_before)


@st.composite
def digit_chains(draw: st.DrawFn) -> tuple[list[int], list[Step]]:
    """Chains up to rank 8 that reorder whole factors of axes, and end at rank 1."""
    factors = draw(st.lists(st.sampled_from([2, 3]), min_size=2, max_size=8))
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        order = draw(st.permutations(range(len(factors))))
        steps += [("view", factors), ("permute", list(order))]
        factors = [factors[axis] for axis in order]
        split = draw(st.integers(1, len(factors)))
        steps.append(("view", [prod(factors[:split]), prod(factors[split:])]))
    return [prod(factors)], steps


@cheap
@given(st.lists(digit_chains(), min_size=8, max_size=12))
def test_a_chain_through_high_ranks_never_passes_rank_5(
    chains: list[tuple[list[int], list[Step]]],
) -> None:
    inputs = [counted(*shape) for shape, _ in chains]
    edited = Edited(Chains([steps for _, steps in chains]), inputs, CollapseShapeChains())
    edited.assert_equal(0)
    assert edited.highest_rank <= MAX_RANK


def test_views_in_a_row_count_as_the_last_even_if_they_cut_across() -> None:
    forward = lambda x: x.view(2, 2, 2, 3, 2, 3).view(4, 6, 6) + 0  # noqa: E731
    assert collapsed(forward, counted(4, 3, 12)).operators == ["reshape", "add"]


def official_time_shuffle(x: Tensor) -> Tensor:
    """Channels to frames as hustvl/Turbo-VAED writes it: rank 6, then frames into the batch."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // 2, 2, t, h, w).permute(0, 1, 3, 2, 4, 5).flatten(2, 3)
    x = x.permute(0, 2, 1, 3, 4).reshape(b * t * 2, c // 2, h, w)
    return F.pixel_shuffle(x, 2)


def ltx_shuffle(x: Tensor) -> Tensor:
    """The coupled shuffle of LTX-Video at rank 8."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, t, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def test_the_official_time_shuffle_is_one_permute_at_rank_4() -> None:
    edited = collapsed(official_time_shuffle, counted(1, 16, 3, 2, 5))
    assert edited.operators.count("permute") == 1
    assert edited.highest_rank <= 5


@pytest.mark.parametrize("batch", [1, 2])
def test_the_coupled_shuffle_of_ltx_is_block_swaps_at_rank_4(batch: int) -> None:
    edited = collapsed(ltx_shuffle, counted(batch, 16, 3, 2, 5))
    assert edited.highest_rank <= 5
    assert len(edited.nodes_before) >= 5
    assert edited.decisions[-1].applied


def test_a_fold_of_frames_and_its_inverse_leave_nothing() -> None:
    def forward(x: Tensor) -> Tensor:
        folded = x.transpose(1, 2).reshape(6, 4, 5, 2)
        return folded.unflatten(0, (2, 3)).transpose(1, 2) * 2

    assert collapsed(forward, counted(2, 4, 3, 5, 2)).operators == ["mul"]


def test_a_view_that_cuts_across_axes_is_left_alone() -> None:
    edited = collapsed(lambda x: x.t().reshape(8, 3).t() + 0, counted(4, 6))
    assert edited.decisions == []
    assert len(edited.nodes) == len(edited.nodes_before)


def test_a_minimal_chain_is_left_alone_with_that_reason() -> None:
    edited = collapsed(lambda x: x.reshape(2, 3, 4).permute(0, 2, 1) + 0, counted(6, 4))
    assert [decision.reason for decision in edited.decisions] == ["already minimal"]


def test_a_link_that_is_used_elsewhere_is_collapsed_up_to_there_too() -> None:
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        low = x.view(2, 3, 2, 2, 2, 3).permute(0, 2, 4, 1, 3, 5).reshape(8, 18)
        return low * 2, low.reshape(4, 2, 18).transpose(0, 1) * 3

    assert collapsed(forward, counted(6, 4, 6)).highest_rank <= MAX_RANK


def test_a_source_of_high_rank_is_left_by_a_view() -> None:
    def forward(x: Tensor) -> Tensor:
        return x.permute(1, 0, 2, 3, 4, 5).reshape(6, 24).transpose(0, 1) * 2

    edited = collapsed(forward, counted(2, 3, 2, 2, 2, 3))
    assert edited.highest_rank <= MAX_RANK


def test_folded_frames_between_two_videos_cost_at_most_one_permute() -> None:
    first, second = nn.Conv3d(4, 16, 3, padding=1).double(), nn.Conv3d(2, 3, 1).double()

    def forward(x: Tensor) -> Tensor:
        h = official_time_shuffle(first(x))
        return second(h.unflatten(0, (1, -1)).transpose(1, 2))

    module = Written(forward, first=first, second=second)
    edited = Edited(module, [counted(1, 4, 3, 2, 2)], FramesAsBatch(), CollapseShapeChains())
    edited.assert_equal(1e-9)
    between = edited.operators[edited.operators.index("conv2d") + 1 : len(edited.operators) - 1]
    assert between.count("permute") <= 2
    assert edited.highest_rank == 5  # the doors
