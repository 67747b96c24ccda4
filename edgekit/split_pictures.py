"""Pictures that a split is measured on, as its network takes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgekit.detection.letterbox import Pixels
from edgekit.detection.picture_file import picture_files, read_picture
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import Model
from edgekit.split.packet import Placement
from edgekit.split.picture import as_input, seen


@dataclass(frozen=True)
class Pictures:
    """What bytes and accuracy are measured on."""

    names: tuple[str, ...]
    pixels: tuple[Pixels, ...]
    """H W 3 in the network's size."""
    labels: tuple[int, ...] | None
    """Of classes; None: the whole network's own answers stand for them."""
    before_ms: float
    """To read, turn, resize and crop one."""
    placements: tuple[Placement, ...]
    """Of each, which its packet carries."""

    @property
    def truth(self) -> str:
        return "labels" if self.labels is not None else "agreement with the whole network"


def read_pictures(folder: Path, contract: ImageContract, labels: dict[str, int] | None) -> Pictures:
    """All of a folder, in the network's size. Raises UsageError."""
    files = picture_files(folder)
    if labels is not None:
        missing = [path.name for path in files if path.name not in labels]
        if missing:
            raise UsageError(
                f"The labels have nothing for {missing[0]} of {folder} ({len(missing)} such pictures)."
            )
    started = time.perf_counter()
    found = [seen(read_picture(path), contract) for path in files]
    before_ms = 1000 * (time.perf_counter() - started) / len(files)
    known = None if labels is None else tuple(labels[path.name] for path in files)
    return Pictures(
        tuple(path.name for path in files), tuple(item.pixels for item in found), known, before_ms,
        tuple(item.placement for item in found),
    )  # fmt: skip


def inputs_of(pixels: Sequence[Pixels], contract: ImageContract) -> list[Tensor]:
    """As the network takes them, 1 3 H W each."""
    return [torch.from_numpy(as_input(item, contract)) for item in pixels]


def sized_contract(model: Model) -> ImageContract | None:
    contract = model.recipe.contract if model.recipe else None
    if not isinstance(contract, ImageContract):
        return None
    height, width = model.example_inputs[0].shape[-2:]
    return replace(contract, height=height, width=width)


def required_contract(model: Model) -> ImageContract:
    """Raises UsageError for a model whose recipe does not say how a picture becomes its input."""
    contract = sized_contract(model)
    if contract is None:
        raise UsageError(f"{model.name} has no recipe that says how a picture becomes its input.")
    return contract
