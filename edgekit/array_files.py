"""Arrays of networks that take no pictures, such as a video decoder's latents, from files of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekit.errors import UsageError, first_line

SUFFIXES = (".npy", ".npz", ".safetensors")
KEYS = ("latent", "mean")
"""Of a file that holds several arrays; `mean` is what caches of a teacher's latents have."""


def array_files(folder: Path) -> list[Path]:
    """By name, those of folders within too. Raises UsageError if there are none."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the folder that it is in.")
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(
            f"The folder {folder} has no arrays: no file ends in {', '.join(SUFFIXES)}; pictures are read for "
            "models whose recipe says how."
        )
    return files


def read_item(file: Path, shape: tuple[int, ...]) -> Tensor:
    """One item without batch, of `shape` or larger along every axis but the first; a batch of one is one item.

    Raises UsageError.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            arrays: dict[str, Any] = dict(load_file(file))
        else:
            read: Any = np.load(file, allow_pickle=False)
            arrays = {KEYS[0]: read} if isinstance(read, np.ndarray) else _all_of(read)
        arrays = {name: torch.as_tensor(array) for name, array in arrays.items()}
    except (OSError, EOFError, ValueError, TypeError, BadZipFile, SafetensorError) as error:
        raise UsageError(f"The array {file} cannot be read ({first_line(error)}).") from error
    key = next((key for key in KEYS if key in arrays), None)
    if key is None:
        raise UsageError(f"{file} holds {', '.join(arrays)}, and no array '{KEYS[0]}'.")
    item: Tensor = arrays[key]
    item = item[0] if item.ndim == len(shape) + 1 and len(item) == 1 else item
    fits = item.ndim == len(shape) and item.shape[0] == shape[0]
    if not fits or any(had < size for had, size in zip(item.shape, shape)):
        raise UsageError(
            f"The array in {file} has the shape {tuple(item.shape)}, and windows of {shape} are to be cut from "
            "it; take a smaller size or fewer frames."
        )
    return item


def _all_of(archive: Any) -> dict[str, Any]:
    with archive:
        return {name: array for name, array in archive.items() if array.dtype.kind in "fiu"}


def window(item: Tensor, shape: tuple[int, ...], *, at_random: bool) -> Tensor:
    """Of `shape`, from the middle or, by torch's generator, from anywhere."""
    for axis, size in enumerate(shape):
        spare = item.shape[axis] - size
        start = int(torch.randint(spare + 1, ())) if at_random and spare else spare // 2
        item = item.narrow(axis, start, size)
    return item.float()
