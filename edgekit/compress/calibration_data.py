"""Inputs from a folder, read when they are asked for: pictures, or arrays of networks that take others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from edgekit.arrays import read_array
from edgekit.detection.picture_file import picture_files, read_picture
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import Model
from edgekit.split.picture import as_input, seen
from edgekit.split_pictures import sized_contract

HELD_OUT = 4
"""Every fourth input is not calibrated with: what comes out is judged by those."""


@dataclass(frozen=True)
class FolderInputs(Sequence[Tensor]):
    """Nothing is kept, so that memory does not grow with the folder."""

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    contract: ImageContract | None
    """How a picture becomes an input; None: the files are .npy."""

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> FolderInputs: ...

    def __getitem__(self, index: int | slice) -> Tensor | FolderInputs:
        if isinstance(index, slice):
            return FolderInputs(self.files[index], self.shape, self.contract)
        path = self.files[index]
        if self.contract is not None:
            return torch.from_numpy(
                as_input(seen(read_picture(path), self.contract).pixels, self.contract)
            )
        array = read_array(path)
        if array.shape != self.shape:
            raise UsageError(f"{path} has shape {array.shape}, and the network takes {self.shape}.")
        return torch.from_numpy(array.astype(np.float32))


def inputs_in(folder: Path, model: Model) -> FolderInputs:
    """Raises UsageError for a folder without such files, or a network of several inputs."""
    if len(model.example_inputs) != 1:
        raise UsageError(
            f"{model.name} takes {len(model.example_inputs)} inputs, and a folder holds one kind; call "
            "edgekit.quantize from Python."
        )
    shape = tuple(model.example_inputs[0].shape)
    contract = sized_contract(model)
    if contract is not None:
        return FolderInputs(tuple(picture_files(folder)), shape, contract)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    arrays = tuple(sorted(folder.glob("*.npy")))
    if not arrays:
        raise UsageError(f"{folder} holds no .npy files, which are the inputs of {model.name}.")
    return FolderInputs(arrays, shape, None)


def divided(inputs: FolderInputs) -> tuple[FolderInputs, FolderInputs]:
    """To calibrate with, and to judge by. Few inputs are both."""
    if len(inputs) < HELD_OUT:
        return inputs, inputs
    judged = inputs[HELD_OUT - 1 :: HELD_OUT]
    kept = tuple(file for file in inputs.files if file not in set(judged.files))
    return FolderInputs(kept, inputs.shape, inputs.contract), judged
