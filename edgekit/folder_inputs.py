"""Inputs from a folder, read when they are asked for: pictures, or arrays of networks that take others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from edgekit.array_files import array_files, read_item, window
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
    """Of an input, a batch of one."""
    contract: ImageContract | None
    """How a picture becomes an input; None: the files hold arrays."""

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
        item = self.shape[1:]
        return window(read_item(path, item), item, at_random=False)[None]

    def batches(self, count: int, size: int) -> list[Tensor]:
        """The first inputs, `size` at a time."""
        chosen = [self[index] for index in range(min(count, len(self)))]
        return [torch.cat(chosen[start : start + size]) for start in range(0, len(chosen), size)]


def inputs_in(folder: Path, model: Model) -> FolderInputs:
    """Of a folder, those of folders within it too for arrays.

    Raises UsageError for a folder without such files, or a network of several inputs.
    """
    if len(model.example_inputs) != 1:
        raise UsageError(
            f"{model.name} takes {len(model.example_inputs)} inputs, and a folder holds one kind; give them "
            "from Python."
        )
    shape = tuple(model.example_inputs[0].shape)
    contract = sized_contract(model)
    if contract is not None:
        return FolderInputs(tuple(picture_files(folder)), shape, contract)
    return FolderInputs(tuple(array_files(folder)), shape, None)


def divided(inputs: FolderInputs) -> tuple[FolderInputs, FolderInputs]:
    """To calibrate with, and to judge by. Few inputs are both."""
    if len(inputs) < HELD_OUT:
        return inputs, inputs
    kept = tuple(file for index, file in enumerate(inputs.files, start=1) if index % HELD_OUT)
    return FolderInputs(kept, inputs.shape, inputs.contract), inputs[HELD_OUT - 1 :: HELD_OUT]
