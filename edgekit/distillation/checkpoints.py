"""Checkpoints of a run: written whole or not at all, the newest and the best."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgekit.checkpoint import read_checkpoint
from edgekit.errors import UsageError

NEWEST, BEST = "newest.pt", "best.pt"


def write_whole(path: Path, content: bytes | Mapping[str, Any]) -> None:
    """Bytes, or tensors by torch.save: beside, to the disk, then renamed over what was there.

    A process that is killed at any moment leaves the old file or the new one.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            torch.save(dict(content), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    if os.name == "posix":  # so that the new name outlives a power failure, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_newest(folder: Path) -> Mapping[str, Any] | None:
    """What the run last saved; None before it saved anything.

    Raises UsageError for a damaged file, and says what is left.
    """
    path = folder / NEWEST
    if not path.exists():
        return None
    try:
        state = read_checkpoint(path)
    except UsageError as error:
        best = folder / BEST
        rest = (
            f"Copy {best} over it to resume from the best so far"
            if best.exists()
            else "Delete it to begin the run again"
        )
        raise UsageError(f"{str(error).rpartition(';')[0]}. {rest}.") from error
    if not {"stage", "step", "network", "world_size"} <= state.keys():
        raise UsageError(
            f"{path} is no checkpoint of a run (it holds {', '.join(map(str, state))}); "
            "give another folder."
        )
    return state
