"""Which items make which batch: a function of seed, stage and step alone.

A run that is resumed, has other workers, or shares a batch among processes sees the same items with
the same random changes. Nothing of it needs to be saved.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from edgekit.distillation.stage import Stage
from edgekit.distillation.taps import Batch
from edgekit.errors import EdgekitError, UsageError, first_line


def seed_everything(*numbers: int) -> None:
    """Seed torch (all devices in use), NumPy and `random` with one number made of these.

    torch.manual_seed is not called: before CUDA is in use it notes a stack trace of every call.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@dataclass(frozen=True)
class Place:
    """Where in the run a batch is drawn."""

    seed: int
    stage: int
    first_step: int
    rank: int = 0
    world_size: int = 1


class Draws(Sampler[list[tuple[int, int]]]):
    """Pairs of an item's index and the number of its draw, one list for each part of a batch.

    Draws go through all items in random order, then again in another. A process takes its equal,
    contiguous share of each batch.
    """

    def __init__(self, items: int, stage: Stage, place: Place) -> None:
        self._items = items
        self._stage = stage
        self._place = place
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size, parts = self._stage.batch_size, self._stage.accumulate
        share = size // self._place.world_size
        for step in range(self._place.first_step, self._stage.steps):
            first = step * size + self._place.rank * share
            for part in range(parts):
                begin = first + part * share // parts
                yield [(self._index(n), n) for n in range(begin, begin + share // parts)]

    def _index(self, draw: int) -> int:
        epoch, place = divmod(draw, self._items)
        if epoch != self._epoch:
            seed = (self._place.seed, self._place.stage, epoch)
            self._order = np.random.default_rng(seed).permutation(self._items)
            self._epoch = epoch
        return int(self._order[place])


class SeededItems(Dataset[Any]):
    """Items of a data set, each drawn with random generators seeded by its draw."""

    def __init__(self, items: Any, place: Place) -> None:
        self._items = items
        self._place = place

    def __getitem__(self, drawn: tuple[int, int]) -> Any:
        index, draw = drawn
        seed_everything(self._place.seed, self._place.stage, 1, draw)
        return self._items[index]


@dataclass(frozen=True)
class Refused:
    """What an item raised in a worker. Raised there, it would come with the worker's traceback in its text."""

    error: EdgekitError


class Refusing(Dataset[Any]):
    """A data set whose refusals are items."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._items[index]
        except EdgekitError as error:
            return Refused(error)


def stack(items: Sequence[Any]) -> Batch | Refused:
    """A batch; or the first refusal among its items, or why they cannot be one."""
    for item in items:
        if isinstance(item, Refused):
            return item
    try:
        return default_collate(list(items))
    except (RuntimeError, TypeError) as error:
        return Refused(
            UsageError(
                f"Items of the data cannot be stacked to a batch ({first_line(error)}); give tensors and numbers, "
                "of one shape for all items unless batch_size is 1."
            )
        )


def unless_refused(batch: Batch | Refused) -> Batch:
    if isinstance(batch, Refused):
        raise batch.error
    return batch


def leave_stopping_to_the_loop(_worker: int) -> None:
    """Ctrl-C reaches workers as well; the loop, which finishes its step and saves, needs their items."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Batches:
    """The batches of a stage from a step on, and how long they were waited for."""

    def __init__(self, data: Any, stage: Stage, place: Place, workers: int, pinned: bool) -> None:
        loader = DataLoader(
            Refusing(SeededItems(data, place)),
            batch_sampler=Draws(len(data), stage, place),
            num_workers=workers,
            collate_fn=stack,
            pin_memory=pinned,
            worker_init_fn=leave_stopping_to_the_loop,
        )
        self._batches = iter(loader)
        self.waited_seconds = 0.0

    def take(self) -> Batch:
        started = time.perf_counter()
        batch = next(self._batches)
        self.waited_seconds += time.perf_counter() - started
        return unless_refused(batch)


def first_batch(data: Any, size: int) -> Batch:
    """The first items, stacked, to look at what they are like."""
    return unless_refused(stack([data[index] for index in range(min(size, len(data)))]))


def require_items(data: Any, where: str) -> None:
    """Raises UsageError unless `data` has a length, items by index, and at least one."""
    if isinstance(data, DataLoader):
        raise UsageError(
            f"The data of {where} is a DataLoader; give its data set, and batch_size to the stage: the "
            "order of items is part of a run, so that it can be resumed."
        )
    if isinstance(data, IterableDataset) or not (
        hasattr(data, "__len__") and hasattr(data, "__getitem__")
    ):
        raise UsageError(
            f"The data of {where}, a {type(data).__name__}, has no length or no items by index; a run can "
            "only be resumed exactly on data that has both."
        )
    if len(data) == 0:
        raise UsageError(f"The data of {where} is empty; there is nothing to train on.")


def require_shares(stage: Stage, world_size: int) -> None:
    """Raises UsageError if the batch cannot be cut into equal parts."""
    parts = world_size * stage.accumulate
    if stage.batch_size % parts:
        raise UsageError(
            f"Stage '{stage.name}' has batches of {stage.batch_size}, which {world_size} "
            f"process{'es' if world_size > 1 else ''} times accumulate={stage.accumulate} cannot share "
            f"equally; take a multiple of {parts}."
        )
