"""For all tests: no progress bars, and each begins with as many threads as the process began with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault(
    "TQDM_DISABLE", "1"
)  # tqdm reads this once, when the first library imports it
THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def all_threads_again() -> Iterator[None]:
    """The last bits of a convolution depend on the number of threads, and an export is compared by bits."""
    yield
    torch.set_num_threads(THREADS)
