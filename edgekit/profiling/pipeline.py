"""From a picture's file to what a user sees of it, in the steps that a device takes one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgekit.arrays import to_pixels
from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections
from edgekit.detection.detector import detector_of_bundle
from edgekit.detection.drawing import drawn
from edgekit.detection.letterbox import Pixels, fitted, normalised
from edgekit.detection.reduced_decode import draft
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits, Picture
from edgekit.split.picture import seen

TOP = 5
NETWORK, HEAD = "network", "head"
"""The steps that are given the network's input."""


@dataclass(frozen=True)
class Step:
    """What one step makes of what the step before made."""

    name: str
    run: Callable[[Any], Any]
    told: tuple[str, ...] = ()
    """Of one that waits for another machine and gives a `Told`: what that machine did meanwhile, which is no time of
    this step's."""


@dataclass(frozen=True)
class Told:
    value: Any
    spent_ms: tuple[float, ...]
    """By the other machine's own words, in the order of `Step.told`."""


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Way:
    """One of the ways to the same answer."""

    name: str
    opened: Callable[[], Steps]
    """For one caller: each reads a video for itself. The first step takes None."""


class Network(Protocol):
    """From the network's input to its outputs by name, on this machine or on two."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def file(self) -> Runnable:
        """What this machine runs of it."""

    def opened(self) -> Steps:
        """For one caller."""


@dataclass(frozen=True)
class Whole:
    bundle: Bundle
    file: Runnable

    def opened(self) -> Steps:
        (image,) = self.bundle.inputs
        return (Step(NETWORK, lambda value: self.file.run({image.name: value})),)


def picture_ways(network: Network, picture: Path) -> tuple[Way, ...]:
    """Raises UsageError, also for a picture that cannot be opened."""
    ways = {"full decode": False} | ({"reduced decode": True} if _format(picture) == "JPEG" else {})
    return tuple(
        Way(name, partial(steps_of, network, picture, reduced=reduced))
        for name, reduced in ways.items()
    )


def _format(picture: Path) -> str | None:
    return Image.open(picture).format


def steps_of(network: Network, picture: Path, *, reduced: bool) -> Steps:
    """Each takes None first and gives the drawn picture, the top classes or an encoded picture last.

    With `reduced` a JPEG is decoded at the smallest of its sizes (1/2, 1/4, 1/8) that is large enough for the
    network, and boxes are drawn on that. Raises UsageError.
    """
    contract = contract_of(network.bundle)
    return (
        Step("read", lambda _: picture.read_bytes()),
        Step("decode", lambda data: _decoded(data, contract if reduced else None)),
        Step("colour", _upright_rgb),
        *answered(network, (Step("encode PNG", _png),)),
    )


def contract_of(bundle: Bundle) -> ImageContract:
    """Raises UsageError for a bundle that takes no pictures."""
    contract = bundle.image_contract
    if contract is None:
        raise UsageError(
            f"{bundle.path.name} takes no pictures by a recipe of ours; leave --image and --video away."
        )
    return contract


def answered(network: Network, written: Steps) -> Steps:
    """From an upright RGB picture on; `written` are the steps that a picture which the network made takes at last."""
    contract = contract_of(network.bundle)
    if isinstance(contract.output, Logits):
        return _classified(network, contract)
    if isinstance(contract.output, Picture):
        return (*_remade(network, contract), *written)
    return _detected(network)


def input_pixels(steps: Steps) -> Array:
    """What the network is given, by the steps before it."""
    value: Any = None
    for step in steps:
        if step.name in (NETWORK, HEAD):
            break
        value = step.run(value)
    found: Array = value[0]
    return found


def _beside(step: Step) -> Step:
    """The same of a state's first part; the others are kept."""

    def run(state: Any) -> Any:
        made = step.run(state[0])
        if isinstance(made, Told):
            return replace(made, value=(made.value, *state[1:]))
        return made, *state[1:]

    return replace(step, run=run)


def _detected(network: Network) -> Steps:
    detector = detector_of_bundle(network.bundle, network.file)
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
        *map(_beside, network.opened()),
        Step("suppress", suppress),
        Step("draw", lambda state: drawn(state[1], state[0], boxes.names)),
    )


def _classified(network: Network, contract: ImageContract) -> Steps:
    def top(state: tuple[Mapping[str, Array]]) -> list[int]:
        logits = np.asarray(next(iter(state[0].values())))[0]
        return [int(index) for index in np.argsort(-logits, kind="stable")[:TOP]]

    return (
        Step("resize", lambda picture: (seen(picture, contract).pixels,)),
        *_computed(network, contract),
        Step(f"top {TOP}", top),
    )


def _remade(network: Network, contract: ImageContract) -> Steps:
    """A network that makes a picture: of an input of its own size, that nothing needs to be cut to."""
    size, spec = (contract.width, contract.height), network.bundle.outputs[0]

    def pixels(state: tuple[Mapping[str, Array]]) -> Pixels:
        return np.ascontiguousarray(to_pixels(state[0][spec.name][0][:, None], spec))

    return (
        Step("resize", lambda picture: (fitted(picture, size, "stretch", 0)[0],)),
        *_computed(network, contract),
        Step("to 8 bits", pixels),
    )


def _computed(network: Network, contract: ImageContract) -> Steps:
    (image,), takes_pixels = network.bundle.inputs, network.bundle.takes_pixels
    return (
        Step("normalise", lambda state: (_values(state[0], contract, takes_pixels, image),)),
        *map(_beside, network.opened()),
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
