"""Which items make which batch depends on seed, stage and step, and on nothing else."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.distillation import Loss, Stage
from edgekit.distillation.batches import Batches, Draws, Place, SeededItems, seed_everything
from edgekit.errors import UsageError

NO_LOSS = [Loss("none", lambda b, s, t: torch.zeros(()))]


def stage(steps: int, batch_size: int, accumulate: int = 1) -> Stage:
    return Stage("one", NO_LOSS, steps, batch_size=batch_size, accumulate=accumulate)


def drawn(items: int, one: Stage, place: Place) -> list[list[tuple[int, int]]]:
    return list(Draws(items, one, place))


@settings(deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
    st.integers(0, 3),
)  # fmt: skip
def test_processes_and_parts_share_the_batches_of_one(
    items: int, steps: int, share: int, world: int, parts: int, seed: int
) -> None:
    size = share * world * parts
    alone = drawn(items, stage(steps, size), Place(seed, 0, 0))
    shares = [
        drawn(items, stage(steps, size, parts), Place(seed, 0, 0, rank, world))
        for rank in range(world)
    ]
    together = [
        [pair for own in shares for part in own[step * parts : (step + 1) * parts] for pair in part]
        for step in range(steps)
    ]
    assert together == alone


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 5), st.integers(0, 12))
def test_a_later_beginning_draws_what_would_have_come(
    items: int, steps: int, size: int, first: int
) -> None:
    begun = drawn(items, stage(steps, size), Place(3, 1, min(first, steps)))
    assert begun == drawn(items, stage(steps, size), Place(3, 1, 0))[min(first, steps) :]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 4))
def test_every_item_comes_once_before_any_comes_again(items: int, rounds: int) -> None:
    order = [
        index
        for batch in drawn(items, stage(items * rounds, 1), Place(0, 0, 0))
        for index, _ in batch
    ]
    for begin in range(0, len(order), items):
        assert sorted(order[begin : begin + items]) == list(range(items))


def test_seeds_and_stages_have_orders_of_their_own() -> None:
    orders = {
        str(drawn(20, stage(5, 4), Place(seed, number, 0)))
        for seed in range(3)
        for number in range(3)
    }
    assert len(orders) == 9


class Random:
    """Items of all three global generators."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return float(torch.rand(())), np.random.random(), random.random()


def test_random_changes_of_an_item_depend_on_its_draw_alone() -> None:
    items = SeededItems(Random(), Place(0, 0, 0))
    assert items[0, 7] == items[0, 7]
    assert len(set(items[0, 7])) == 3
    assert items[0, 7] != items[0, 8]
    assert items[0, 7] != SeededItems(Random(), Place(1, 0, 0))[0, 7]


def test_seeding_does_not_pile_up() -> None:
    """torch.manual_seed would: it notes a stack trace of each call until CUDA is in use."""
    before = len(torch.cuda._queued_calls)
    for number in range(50):
        seed_everything(0, number)
    assert len(torch.cuda._queued_calls) == before


def test_the_wait_for_batches_is_measured() -> None:
    batches = Batches(Random(), stage(2, 2), Place(0, 0, 0), workers=0, pinned=False)
    first = batches.take()
    waited = batches.waited_seconds
    assert waited > 0
    assert len(first) == 3
    batches.take()
    assert batches.waited_seconds > waited


class Failing:
    """The third item is refused."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            raise UsageError("The picture 2.png is damaged.")
        return torch.zeros(1)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_an_item_refuses_is_one_sentence_from_a_worker_too(workers: int) -> None:
    batches = Batches(Failing(), stage(3, 1), Place(0, 0, 0), workers, pinned=False)
    taken = iter(batches.take, None)
    with pytest.raises(UsageError, match=r"^The picture 2\.png is damaged\.$"):
        list(taken)


class Interrupted:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return torch.zeros(1)


def test_ctrl_c_leaves_workers_at_work() -> None:
    batches = Batches(Interrupted(), stage(2, 1), Place(0, 0, 0), workers=1, pinned=False)
    assert batches.take().shape == (1, 1)
