"""For all tests: no progress bars, as many threads as the process began with, and who runs beside whom."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault(
    "TQDM_DISABLE", "1"
)  # tqdm reads this once, when the first library imports it
SPREAD = ("test_every_variant.py", "test_documents.py")
"""Of the longest files the tests go to all processes."""
THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def all_threads_again() -> Iterator[None]:
    """The last bits of a convolution depend on the number of threads, and an export is compared by bits."""
    yield
    torch.set_num_threads(THREADS)


@pytest.hookimpl(tryfirst=True)  # before xdist writes the groups into the names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With --dist loadgroup a file's tests share a process, for what they share, but not the longest files'."""
    for item in items:
        group = str(item.path)
        if item.path.name in SPREAD:
            group = item.name
        elif item.path.parent.name == "web":  # what npm installs is one folder
            group = "web"
        item.add_marker(pytest.mark.xdist_group(group))
