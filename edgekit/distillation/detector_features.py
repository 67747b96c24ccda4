"""Features of a teacher that a detector is to match while it trains on boxes.

They are asked for in a file of numbers (edgekit distill STUDENT --numbers mine.toml):

    [features]
    teacher = "ssd-mobilenet-v2"                  # a model's name, a recipe file beside this one, or anywhere
    weights = "ssd-mobilenet-v2.safetensors"      # beside this file
    weight = 0.5                                  # of the loss
    taps.stride16 = ["model.9", "backbone.blocks.13.layers.2"]    # modules of student and teacher
    taps.stride32 = ["model.14", "backbone.last"]

The teacher sees the same cut of each picture, at its own size and normalised its own way. The student's
features go through a 1×1 convolution, which trains with it and is not part of the result, and are
resampled to the teacher's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.checkpoint import load_weights
from edgekit.data_folder import require_types
from edgekit.distillation.losses import Loss, Match, relative_feature_error
from edgekit.distillation.taps import Batch, Outputs, Tapped, opened
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.recipe import find_recipe
from edgekit.zoo.families import build_network


@dataclass(frozen=True)
class FeatureNumbers:
    """The table [features]."""

    teacher: str
    weights: str
    taps: Mapping[str, Any]
    """By name: the module of the student and that of the teacher."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_types(self)
        if not self.taps:
            raise TypeError(
                "[features] has no taps: name a module of the student and one of the teacher"
            )
        for name, pair in self.taps.items():
            two = isinstance(pair, list) and len(pair) == 2
            if not two or not all(isinstance(path, str) for path in pair):
                raise TypeError(f"'taps.{name}' is {pair!r} and must be two names of modules")


@dataclass(frozen=True)
class AsTaken:
    """A network's input of a batch's pictures: uint8 N 3 H W in RGB to what its contract says."""

    contract: ImageContract
    resized: bool = False
    """To the contract's size; else as they are."""

    def __call__(self, pictures: Tensor) -> Tensor:
        contract = self.contract
        pixels = pictures.float()
        size = (contract.height, contract.width)
        if self.resized and pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        pixels = pixels / 255
        pixels = pixels if contract.order == "RGB" else pixels.flip(1)
        mean, std = (pixels.new_tensor(row)[:, None, None] for row in (contract.mean, contract.std))
        images = (pixels - mean) / std
        return images.contiguous(memory_format=torch.channels_last)  # trains fastest on a CPU

    def output(self, network: nn.Module, batch: Batch) -> Any:
        return network(self(batch["picture"]))


class Onto(nn.Conv2d):
    """A student's features N C H W to the channels and the grid of its teacher's."""

    def __init__(self, channels_in: int, like: Tensor) -> None:
        super().__init__(channels_in, like.shape[1], 1)
        self.grid = tuple(like.shape[2:])

    def forward(self, features: Tensor) -> Tensor:
        projected = super().forward(features)
        if projected.shape[2:] == self.grid:
            return projected
        return F.interpolate(projected, self.grid, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class FeatureTeacher:
    tapped: Tapped
    weight: float
    student_taps: Mapping[str, str]

    def losses(self) -> list[Loss]:
        """One for each tap, `weight` altogether."""
        each = self.weight / len(self.student_taps)
        return [Loss(name, Match(name, relative_feature_error), each) for name in self.student_taps]

    def taught(self, student: Tapped, size_px: int) -> Tapped:
        """The student with taps and projections. Raises UsageError for taps that are no feature maps."""
        tapped = Tapped(student.module, self.student_taps, forward=student.forward)
        batch = {"picture": torch.zeros(1, 3, size_px, size_px, dtype=torch.uint8)}
        own, target = (_seen(one, batch) for one in (tapped, self.tapped))
        projections = {
            name: Onto(_map(own, name).shape[1], _map(target, name)) for name in self.student_taps
        }
        return Tapped(student.module, self.student_taps, projections, student.forward)


def feature_teacher(table: Mapping[str, Any], file: Path) -> FeatureTeacher:
    """Of the table [features] of a file of numbers. Raises UsageError."""
    try:
        numbers = FeatureNumbers(**table)
    except TypeError as error:
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(f"[features] of {file} does not say what to match: {reason}.") from error
    beside = file.parent / numbers.teacher
    recipe = find_recipe(str(beside) if beside.is_file() else numbers.teacher)
    contract = recipe.contract
    if not isinstance(contract, ImageContract):
        raise UsageError(f"The teacher {recipe.name} of {file} takes no images.")
    network = build_network(recipe)
    load_weights(network, file.parent / numbers.weights)
    network.eval().requires_grad_(False)
    taps = {name: paths[1] for name, paths in numbers.taps.items()}
    tapped = Tapped(network, taps, forward=AsTaken(contract, resized=True).output)
    return FeatureTeacher(
        tapped, numbers.weight, {name: paths[0] for name, paths in numbers.taps.items()}
    )


@torch.no_grad()
def _seen(network: Tapped, batch: Batch) -> Outputs:
    """In eval mode, so that nothing of it changes."""
    modes = {module: module.training for module in network.module.modules()}
    network.module.eval()
    with opened(network) as tap:
        network.forward(network.module, batch)
        found = Outputs(taps=tap.take())
    for module, mode in modes.items():
        module.training = mode
    return found


def _map(found: Outputs, name: str) -> Tensor:
    value = found[name]
    if value.ndim != 4:
        shape = "x".join(map(str, value.shape))
        raise UsageError(f"The tap '{name}' is {shape}, no map N C H W; tap a convolution's block.")
    return value
