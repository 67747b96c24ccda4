"""A picture as the input of a head, and where it lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgekit.backends.runnable import Array
from edgekit.box_contract import Boxes
from edgekit.bundle import Bundle
from edgekit.detection.letterbox import Pixels, fitted, normalised
from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.split.packet import Placement

CROPPED = 0.875
"""Of a classifier: share of the shorter side that is seen, as ImageNet is read (224 of 256)."""


@dataclass(frozen=True)
class Seen:
    pixels: Pixels
    """H W 3, RGB, of the input's size: what a server that takes pictures would be sent."""
    placement: Placement


def seen(picture: Image.Image, contract: ImageContract) -> Seen:
    """Of a detector: letterboxed or stretched, as its recipe says; of others: the middle."""
    size = (contract.width, contract.height)
    if isinstance(contract.output, Boxes):
        pixels, place = fitted(picture, size, contract.output.resize, contract.output.fill)
        placement = Placement(
            place.height, place.width, place.top, place.left, place.inner_height, place.inner_width
        )
        return Seen(pixels, placement)
    scale = max(contract.height / picture.height, contract.width / picture.width) / CROPPED
    height, width = (max(1, round(scale * side)) for side in (picture.height, picture.width))
    top, left = (height - contract.height) // 2, (width - contract.width) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    cropped = resized.crop((left, top, left + contract.width, top + contract.height))
    placement = Placement(picture.height, picture.width, -top, -left, height, width)
    return Seen(np.asarray(cropped), placement)


def as_input(pixels: Pixels, contract: ImageContract) -> Array:
    """1 3 H W, normalised."""
    return normalised(pixels, contract.order, contract.mean, contract.std)


def head_input(path: Path, bundle: Bundle) -> tuple[dict[str, Array], Placement | None]:
    """Of a picture file, or of an array (.npy) that is the input itself. Raises UsageError."""
    spec = bundle.inputs[0]
    if path.suffix == ".npy":
        from edgekit.arrays import read_array

        return {spec.name: read_array(path)}, None
    contract = bundle.image_contract
    if contract is None:
        raise UsageError(
            f"{bundle.path.name} has no recipe that says how a picture becomes its input; give the input "
            "itself as an .npy file."
        )
    found = seen(read_picture(path), contract)
    return {spec.name: as_input(found.pixels, contract)}, found.placement
