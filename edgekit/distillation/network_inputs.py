"""A model's inputs from a folder, to train on: pictures as its recipe takes them, or arrays such as latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from edgekit.array_files import read_item, window
from edgekit.box_contract import Boxes
from edgekit.distillation.pictures import Cut, Pictures
from edgekit.distillation.run_folder import digest
from edgekit.distillation.split_networks import OnPictures
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import Model


@dataclass(frozen=True)
class Inputs:
    items: Any
    """A data set."""
    prepare: Callable[[Tensor], Tensor]
    """Stacked items to what the network takes."""


def varied_inputs(model: Model, files: Sequence[Path]) -> Inputs:
    """Pictures in squares of the input's height, mirrored at random, or windows of arrays at random places.

    Of a detector between the square of a picture's shorter side and all of it, as detectors are trained.

    Raises UsageError for a model without a recipe, and for files that cannot be used.
    """
    if model.recipe is None:
        raise UsageError(
            f"{model.name} has no recipe that says what its inputs are; give batches from Python."
        )
    contract = model.recipe.contract
    shape = tuple(model.example_inputs[0].shape)
    if isinstance(contract, ImageContract):
        boxes = contract.output
        cut = Cut(whole=(0.0, 1.0), fill=boxes.fill) if isinstance(boxes, Boxes) else Cut()
        return Inputs(Pictures(files, shape[2], cut), OnPictures(contract).images)
    return Inputs(Windows(files, shape[1:]), _in_float)


def _in_float(stacked: Tensor) -> Tensor:
    return stacked.float()


class Windows(Dataset[Tensor]):
    """Of arrays in files, each time at another place. The arrays are held, unlike pictures: they are small."""

    def __init__(self, files: Sequence[Path], shape: tuple[int, ...]) -> None:
        self._arrays = [read_item(file, shape) for file in files]
        self._shape = shape
        self.made_by = {"shape": shape, "files": digest(file.as_posix() for file in files)}

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: int) -> Tensor:
        return window(self._arrays[index], self._shape, at_random=True)
