"""Random items that are the same each time they are drawn, so that what a teacher says of them is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset


class Fixed(Dataset[Any]):
    """`variants` of each item of a data set that draws with torch's generator.

    Around the item the generator goes on as if it had not been drawn.
    """

    def __init__(self, items: Any, seed: int, variants: int = 1) -> None:
        self._items = items
        self._seed = seed
        self._variants = variants
        self.frames = getattr(items, "frames", 1)
        self.made_by = {
            "seed": seed,
            "variants": variants,
            "of": getattr(items, "made_by", None),
        }

    def __len__(self) -> int:
        return len(self._items) * self._variants

    def source(self, index: int) -> str | None:
        """What decides the item, without making it, where the data set can tell."""
        source_of = getattr(self._items, "source", None)
        if source_of is None:
            return None
        return f"{source_of(index % len(self._items))} drawn {self._seed}.{index}"

    def __getitem__(self, index: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_seed(self._seed, index))
            return self._items[index % len(self._items)]


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence((*numbers, 4)).generate_state(1)[0])
