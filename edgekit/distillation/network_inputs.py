"""Inputs of a model from a folder: pictures as its recipe takes them, or latents of a video decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from edgekit.distillation.pictures import FROM_THE_MIDDLE, Cut, Pictures
from edgekit.distillation.run_folder import digest
from edgekit.distillation.split_networks import OnPictures
from edgekit.errors import UsageError, first_line
from edgekit.image_contract import ImageContract
from edgekit.model import Model

SUFFIXES = (".npy", ".npz", ".safetensors")
KEYS = ("latent", "mean")
"""Of a file that holds several arrays; `mean` is what caches of a teacher's latents have."""


@dataclass(frozen=True)
class Inputs:
    items: Any
    """A data set."""
    prepare: Callable[[Tensor], Tensor]
    """Stacked items to what the network takes."""

    def batches(self, count: int, size: int) -> list[Tensor]:
        """The first inputs, `size` at a time."""
        indices = range(min(count, len(self.items)))
        chosen = [self.items[index] for index in indices]
        return [
            self.prepare(torch.stack(chosen[start : start + size]))
            for start in range(0, len(chosen), size)
        ]


def inputs_of(model: Model, folder: Path, *, varied: bool) -> Inputs:
    """Pictures in squares of the input's height, or latents; `varied`: cut and mirrored at random, for training.

    Raises UsageError for a model without a recipe, and for files that cannot be used.
    """
    if model.recipe is None:
        raise UsageError(
            f"{model.name} has no recipe that says what its inputs are; give batches from Python."
        )
    contract = model.recipe.contract
    if isinstance(contract, ImageContract):
        side = model.example_inputs[0].shape[2]
        pictures = Pictures(folder, side, Cut() if varied else FROM_THE_MIDDLE)
        return Inputs(pictures, OnPictures(contract).images)
    return Inputs(
        Latents(folder, tuple(model.example_inputs[0].shape[1:]), varied=varied), _in_float
    )


def _in_float(stacked: Tensor) -> Tensor:
    return stacked.float()


class Latents(Dataset[Tensor]):
    """Windows C T h w of latents in files: arrays C T h w, or 1 C T h w, at random places or in the middle."""

    def __init__(self, folder: Path, shape: tuple[int, ...], *, varied: bool) -> None:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}.")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(
                f"The folder {folder} has no latents: no file ends in {', '.join(SUFFIXES)}."
            )
        self._latents = [_read(file, shape) for file in files]
        self._shape, self._varied = shape, varied
        names = (file.relative_to(folder).as_posix() for file in files)
        self.made_by = {"shape": shape, "varied": varied, "files": digest(names)}

    def __len__(self) -> int:
        return len(self._latents)

    def __getitem__(self, index: int) -> Tensor:
        found = self._latents[index]
        for axis, size in enumerate(self._shape[1:], start=1):
            spare = found.shape[axis] - size
            start = int(torch.randint(spare + 1, ())) if self._varied and spare else spare // 2
            found = found.narrow(axis, start, size)
        return found.float()


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    try:
        if file.suffix == ".safetensors":
            arrays: dict[str, Any] = dict(load_file(file))
        else:
            read: Any = np.load(file, allow_pickle=False)
            arrays = dict(read) if file.suffix == ".npz" else {KEYS[0]: read}
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"The latents {file} cannot be read ({first_line(error)}).") from error
    key = next((key for key in KEYS if key in arrays), None)
    if key is None:
        raise UsageError(f"{file} holds {', '.join(arrays)}, and no array '{KEYS[0]}'.")
    latent = torch.as_tensor(arrays[key])
    latent = latent[0] if latent.ndim == len(shape) + 1 and len(latent) == 1 else latent
    fits = latent.ndim == len(shape) and latent.shape[0] == shape[0]
    if not fits or any(had < size for had, size in zip(latent.shape, shape)):
        raise UsageError(
            f"The latent in {file} has the shape {tuple(latent.shape)}, and windows of {shape} are to be cut from "
            "it; take a smaller size or fewer frames."
        )
    return latent
