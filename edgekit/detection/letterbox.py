"""From a picture to a network's input, and boxes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekit.detection.detections import Detections, Floats

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Placement:
    """Where a picture of `width` by `height` pixels lies in a network's input."""

    width: int
    height: int
    left: int
    top: int
    inner_width: int
    """Of the picture within the input."""
    inner_height: int

    def to_picture(self, boxes: Floats) -> Floats:
        """Boxes of the input in pixels of the picture, cut at its borders."""
        scale = np.array([self.width / self.inner_width, self.height / self.inner_height] * 2)
        moved = (boxes - np.array([self.left, self.top] * 2)) * scale
        size = np.array([self.width, self.height] * 2)
        cut: Floats = np.clip(moved, 0, size).astype(np.float32)
        return cut

    def to_input(self, boxes: Floats) -> Floats:
        """The way back, without the cut."""
        scale = np.array([self.inner_width / self.width, self.inner_height / self.height] * 2)
        placed: Floats = (boxes * scale + np.array([self.left, self.top] * 2)).astype(np.float32)
        return placed

    def found(self, detections: Detections) -> Detections:
        """In the picture, without boxes that lie beside it."""
        boxes = self.to_picture(detections.boxes)
        inside = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        return replace(detections, boxes=boxes).at(inside)


def place(size: tuple[int, int], into: tuple[int, int], resize: str) -> Placement:
    """Both sizes are width and height. A letterboxed picture is as large as fits, in the middle."""
    (width, height), (input_width, input_height) = size, into
    if resize == "stretch":
        return Placement(width, height, 0, 0, input_width, input_height)
    scale = min(input_width / width, input_height / height)
    inner_width = min(input_width, max(1, round(width * scale)))
    inner_height = min(input_height, max(1, round(height * scale)))
    left, top = (input_width - inner_width) // 2, (input_height - inner_height) // 2
    return Placement(width, height, left, top, inner_width, inner_height)


def fitted(
    picture: Image.Image, into: tuple[int, int], resize: str, fill: int
) -> tuple[Pixels, Placement]:
    """An RGB picture as H W 3 in 0..255 of the input's width and height."""
    placement = place(picture.size, into, resize)
    inner = picture.resize(
        (placement.inner_width, placement.inner_height),
        Image.Resampling.BILINEAR,
        reducing_gap=3.0,  # twenty times less work on pictures of 100 megapixels
    )
    canvas: Pixels = np.full((into[1], into[0], 3), fill, np.uint8)
    rows = slice(placement.top, placement.top + placement.inner_height)
    columns = slice(placement.left, placement.left + placement.inner_width)
    canvas[rows, columns] = np.asarray(inner)
    return canvas, placement


def normalised(
    pixels: Pixels, order: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Floats:
    """H W 3 in RGB to 1 3 H W: colours in `order`, (x - mean) / std of x in [0, 1]."""
    ordered = pixels if order == "RGB" else pixels[..., ::-1]
    unit = ordered.astype(np.float32) / np.float32(255)
    values = (unit - np.array(mean, np.float32)) / np.array(std, np.float32)
    image: Floats = np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)
    return image
