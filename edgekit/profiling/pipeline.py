"""From a picture's file to what a user sees of it, in the steps that a device takes one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgekit.arrays import to_pixels
from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector, detector_of_bundle
from edgekit.detection.drawing import drawn
from edgekit.detection.letterbox import Pixels, fitted, normalised
from edgekit.detection.reduced_decode import draft
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits, Picture
from edgekit.split.picture import seen

TOP = 5


@dataclass(frozen=True)
class Step:
    """What one step makes of what the step before made."""

    name: str
    run: Callable[[Any], Any]


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Way:
    """One of the ways to the same answer."""

    name: str
    opened: Callable[[], Steps]
    """For one caller: each reads a video for itself. The first step takes None."""


def picture_ways(bundle: Bundle, file: Runnable, picture: Path) -> tuple[Way, ...]:
    """Raises UsageError, also for a picture that cannot be opened."""
    ways = {"full decode": False} | ({"reduced decode": True} if _format(picture) == "JPEG" else {})
    chains = {
        name: steps_of(bundle, file, picture, reduced=reduced) for name, reduced in ways.items()
    }
    return tuple(Way(name, lambda chain=chain: chain) for name, chain in chains.items())  # type: ignore[misc]


def _format(picture: Path) -> str | None:
    return Image.open(picture).format


def steps_of(bundle: Bundle, file: Runnable, picture: Path, *, reduced: bool) -> Steps:
    """Each takes None first and gives the drawn picture, the top classes or an encoded picture last.

    With `reduced` a JPEG is decoded at the smallest of its sizes (1/2, 1/4, 1/8) that is large enough for the
    network, and boxes are drawn on that. Raises UsageError.
    """
    contract = contract_of(bundle)
    return (
        Step("read", lambda _: picture.read_bytes()),
        Step("decode", lambda data: _decoded(data, contract if reduced else None)),
        Step("colour", _upright_rgb),
        *answered(bundle, file, (Step("encode PNG", _png),)),
    )


def contract_of(bundle: Bundle) -> ImageContract:
    """Raises UsageError for a bundle that takes no pictures."""
    contract = bundle.image_contract
    if contract is None:
        raise UsageError(
            f"{bundle.path.name} takes no pictures by a recipe of ours; leave --image and --video away."
        )
    return contract


def answered(bundle: Bundle, file: Runnable, written: Steps) -> Steps:
    """From an upright RGB picture on; `written` are the steps that a picture which the network made takes at last."""
    contract = contract_of(bundle)
    if isinstance(contract.output, Logits):
        return _classified(bundle, contract, file)
    if isinstance(contract.output, Picture):
        return (*_remade(bundle, contract, file), *written)
    return _detected(detector_of_bundle(bundle, file))


def input_pixels(steps: Steps) -> Array:
    """What the network is given, by the steps before it."""
    value: Any = None
    for step in steps:
        if step.name == "network":
            break
        value = step.run(value)
    found: Array = value[0]
    return found


def _detected(detector: Detector) -> Steps:
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


def _classified(bundle: Bundle, contract: ImageContract, file: Runnable) -> Steps:
    def top(outputs: Mapping[str, Array]) -> list[int]:
        logits = np.asarray(next(iter(outputs.values())))[0]
        return [int(index) for index in np.argsort(-logits, kind="stable")[:TOP]]

    return (
        Step("resize", lambda picture: (seen(picture, contract).pixels,)),
        *_computed(bundle, contract, file),
        Step(f"top {TOP}", top),
    )


def _remade(bundle: Bundle, contract: ImageContract, file: Runnable) -> Steps:
    """A network that makes a picture: of an input of its own size, that nothing needs to be cut to."""
    size, spec = (contract.width, contract.height), bundle.outputs[0]

    def pixels(outputs: Mapping[str, Array]) -> Pixels:
        return np.ascontiguousarray(to_pixels(outputs[spec.name][0][:, None], spec))

    return (
        Step("resize", lambda picture: (fitted(picture, size, "stretch", 0)[0],)),
        *_computed(bundle, contract, file),
        Step("to 8 bits", pixels),
    )


def _computed(bundle: Bundle, contract: ImageContract, file: Runnable) -> Steps:
    (image,) = bundle.inputs
    return (
        Step("normalise", lambda state: (_values(state[0], contract, bundle.takes_pixels, image),)),
        Step("network", lambda state: file.run({image.name: state[0]})),
    )


def _values(
    pixels: Pixels, contract: ImageContract, takes_pixels: bool, image: TensorSpec
) -> Array:
    if not takes_pixels:
        return normalised(pixels, contract.order, contract.mean, contract.std)
    laid = pixels[None] if image.axes == "NHWC" else pixels.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(laid, dtype=image.dtype)


def _png(pixels: Pixels) -> bytes:
    """Of one frame, 1 H W 3."""
    place = io.BytesIO()
    Image.fromarray(pixels[0]).save(place, "PNG")
    return place.getvalue()


def _decoded(data: bytes, smaller: ImageContract | None) -> Image.Image:
    """Raises UsageError."""
    try:
        picture = Image.open(io.BytesIO(data))
        if smaller is not None:
            draft(picture, smaller)
        picture.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"--image is no picture that Pillow reads ({error}).") from error
    return picture


def _upright_rgb(picture: Image.Image) -> Image.Image:
    """Without a copy of what is so already: two of them took longer than the decoder."""
    ImageOps.exif_transpose(picture, in_place=True)
    return picture if picture.mode == "RGB" else picture.convert("RGB")
