"""From a picture's file to what a user sees of it, in the steps that a device takes one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector, detector_of_bundle
from edgekit.detection.drawing import drawn
from edgekit.detection.letterbox import Pixels, fitted, normalised, place
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits
from edgekit.split.picture import seen

TOP = 5
SPARE = 2.0
"""A JPEG that is decoded smaller stays so many times larger than what it is resized to, as Pillow's own
`thumbnail` has it: below, the resize would have too few pixels to average."""
TURNED = range(5, 9)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Step:
    """What one step makes of what the step before made."""

    name: str
    run: Callable[[Any], Any]


def steps_of(bundle: Bundle, file: Runnable, picture: Path, *, reduced: bool) -> tuple[Step, ...]:
    """Of a detector or a classifier. Each takes None first and gives the drawn picture, or the top classes, last.

    With `reduced` a JPEG is decoded at the smallest of its sizes (1/2, 1/4, 1/8) that is large enough for the
    network, and boxes are drawn on that. Raises UsageError.
    """
    contract = bundle.image_contract
    if contract is None or (not isinstance(contract.output, Logits) and bundle.boxes is None):
        raise UsageError(
            f"{bundle.path.name} is neither a detector nor a classifier; leave --image away."
        )
    before = (
        Step("read", lambda _: picture.read_bytes()),
        Step("decode", lambda data: _decoded(data, contract if reduced else None)),
        Step("colour", _upright_rgb),
    )
    if isinstance(contract.output, Logits):
        return (*before, *_classified(bundle, contract, file))
    return (*before, *_detected(detector_of_bundle(bundle, file)))


def input_pixels(steps: tuple[Step, ...]) -> Array:
    """What the network is given, by the steps before it."""
    value: Any = None
    for step in steps:
        if step.name == "network":
            break
        value = step.run(value)
    found: Array = value[0]
    return found


def _detected(detector: Detector) -> tuple[Step, ...]:
    boxes, thresholds = detector.boxes, detector.thresholds_for()
    size = (detector.contract.width, detector.contract.height)

    def resize(picture: Image.Image) -> Any:
        return *fitted(picture, size, boxes.resize, boxes.fill), picture

    def suppress(state: Any) -> tuple[Detections, Image.Image]:
        outputs, placement, picture = state
        return placement.found(detector.chosen(outputs, thresholds)), picture

    return (
        Step("resize", resize),
        Step("normalise", lambda state: (detector.input_of(state[0]), *state[1:])),
        Step("network", lambda state: (detector.run(state[0]), *state[1:])),
        Step("suppress", suppress),
        Step("draw", lambda state: drawn(state[1], state[0], boxes.names)),
    )


def _classified(bundle: Bundle, contract: ImageContract, file: Runnable) -> tuple[Step, ...]:
    (image,) = bundle.inputs

    def top(outputs: Mapping[str, Array]) -> list[int]:
        logits = np.asarray(next(iter(outputs.values())))[0]
        return [int(index) for index in np.argsort(-logits, kind="stable")[:TOP]]

    return (
        Step("resize", lambda picture: (seen(picture, contract).pixels,)),
        Step("normalise", lambda state: (_values(state[0], contract, bundle.takes_pixels, image),)),
        Step("network", lambda state: file.run({image.name: state[0]})),
        Step(f"top {TOP}", top),
    )


def _values(
    pixels: Pixels, contract: ImageContract, takes_pixels: bool, image: TensorSpec
) -> Array:
    if not takes_pixels:
        return normalised(pixels, contract.order, contract.mean, contract.std)
    laid = pixels[None] if image.axes == "NHWC" else pixels.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(laid, dtype=image.dtype)


def _decoded(data: bytes, smaller: ImageContract | None) -> Image.Image:
    """Raises UsageError."""
    try:
        picture = Image.open(io.BytesIO(data))
        if smaller is not None:
            picture.draft(
                None, _enough(picture, smaller)
            )  # of a JPEG; others are decoded as they are
        picture.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"--image is no picture that Pillow reads ({error}).") from error
    return picture


def _enough(picture: Image.Image, contract: ImageContract) -> tuple[int, int]:
    """Width and height, as the file has them, of the least that is decoded."""
    is_turned = picture.getexif().get(0x0112) in TURNED
    width, height = picture.size[::-1] if is_turned else picture.size
    into = (contract.width, contract.height)
    resize = getattr(contract.output, "resize", "cover")
    if resize == "cover":  # a classifier's middle is cut out of it
        scale = max(into[0] / width, into[1] / height)
        least = (SPARE * scale * width, SPARE * scale * height)
    else:
        placed = place((width, height), into, resize)
        least = (SPARE * placed.inner_width, SPARE * placed.inner_height)
    sides = (min(width, round(least[0])), min(height, round(least[1])))
    return sides[::-1] if is_turned else sides


def _upright_rgb(picture: Image.Image) -> Image.Image:
    """Without a copy of what is so already: two of them took longer than the decoder."""
    ImageOps.exif_transpose(picture, in_place=True)
    return picture if picture.mode == "RGB" else picture.convert("RGB")
