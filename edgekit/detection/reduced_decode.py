"""A JPEG decoded no larger than a network needs: its decoder makes 1/2, 1/4 or 1/8 of each side for less than the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgekit.box_contract import Boxes
from edgekit.detection.detections import Detections
from edgekit.detection.letterbox import place
from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Picture

SPARE = 2.0
"""A JPEG that is decoded smaller stays so many times larger than what it is resized to, as Pillow's own
`thumbnail` has it: below, the resize would have too few pixels to average."""
TURNED = range(5, 9)
"""EXIF orientations that exchange width and height."""
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Reduced:
    picture: Image.Image
    """Upright, in RGB, of the whole picture with fewer pixels."""
    width: int
    """Of the file's own picture, upright."""
    height: int

    def to_whole(self, found: Detections) -> Detections:
        """Boxes of the smaller picture in pixels of the file's own."""
        scale = [self.width / self.picture.width, self.height / self.picture.height] * 2
        return replace(found, boxes=(found.boxes * np.array(scale)).astype(np.float32))


def read_reduced(path: Path, contract: ImageContract) -> Reduced:
    """Raises UsageError for what is no JPEG, as for what cannot be read."""
    sizes: list[tuple[int, int]] = []

    def smaller(file: Image.Image) -> None:
        if file.format != "JPEG":
            raise UsageError(
                f"{path} is a {file.format} and is decoded as it is; only a JPEG can be decoded smaller."
            )
        sizes.append(shown_size(file))
        draft(file, contract)

    picture = read_picture(path, prepared=smaller)
    return Reduced(picture, *sizes[0])


def draft(file: Image.Image, contract: ImageContract) -> None:
    """Ask a JPEG that is not decoded yet for the least of its sizes that is large enough; others stay whole."""
    width, height = enough(shown_size(file), contract, SPARE)
    is_turned = file.getexif().get(ORIENTATION) in TURNED
    file.draft(None, (height, width) if is_turned else (width, height))


def shown_size(file: Image.Image) -> tuple[int, int]:
    """Width and height, upright."""
    width, height = file.size
    return (height, width) if file.getexif().get(ORIENTATION) in TURNED else (width, height)


def enough(size: tuple[int, int], contract: ImageContract, spare: float) -> tuple[int, int]:
    """Width and height of the least picture that has `spare` times the pixels per side that are looked at."""
    width, height = size
    into = (contract.width, contract.height)
    if isinstance(contract.output, (Boxes, Picture)):
        resize = contract.output.resize if isinstance(contract.output, Boxes) else "stretch"
        placed = place(size, into, resize)
        least = (spare * placed.inner_width, spare * placed.inner_height)
    else:  # a classifier's middle is cut out of it
        scale = max(into[0] / width, into[1] / height)
        least = (spare * scale * width, spare * scale * height)
    return min(width, round(least[0])), min(height, round(least[1]))
