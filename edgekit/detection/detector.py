"""Pictures in, boxes in the picture's own pixels out: by a bundle, or by a model in eager torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from edgekit.backends.runnable import Runnable
from edgekit.box_contract import Boxes, Thresholds
from edgekit.bundle import Bundle
from edgekit.contract import TensorSpec
from edgekit.detection.detections import Detections, Floats, rows_in_use
from edgekit.detection.evidence import LOGITS, Evidence, features_at, maps_of
from edgekit.detection.letterbox import Pixels, fitted, normalised
from edgekit.detection.picture_file import read_picture
from edgekit.detection.reduced_decode import read_reduced
from edgekit.detection.suppression import Indices, kept_candidates
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import Model
from edgekit.running import open_whole

Array = npt.NDArray[np.generic]
Run = Callable[[Array], Mapping[str, Array]]
Screen = Callable[[Detections], Detections]


def everything(found: Detections) -> Detections:
    """No filter."""
    return found


@dataclass(frozen=True)
class Detector:
    """Whatever computes `boxes` and `scores` of an image."""

    name: str
    image: TensorSpec
    contract: ImageContract
    boxes: Boxes
    run: Run
    """One image in, outputs by name out."""
    takes_pixels: bool = False
    """Colours 0 to 255 go in; the file has the normalisation."""
    weights: str = ""
    """Where a model's came from."""
    within: Thresholds | None = None
    """Those of a file that suppresses by itself."""
    screen: Screen = everything
    """What is at last made of the boxes of a picture: a filter may be at work."""

    def __call__(self, picture: Image.Image, thresholds: Thresholds) -> Detections:
        """Of an RGB picture. Raises UsageError for outputs that are not finite."""
        size = (self.contract.width, self.contract.height)
        pixels, placement = fitted(picture, size, self.boxes.resize, self.boxes.fill)
        found = placement.found(self.chosen(self.run(self.input_of(pixels)), thresholds))
        return self.screen(found)

    def of_file(
        self, path: Path, thresholds: Thresholds, *, reduced_decode: bool = False
    ) -> Detections:
        """The boxes of a picture's file, in its own pixels; with `reduced_decode` of a JPEG that is decoded no larger
        than the network needs. Raises UsageError."""
        if not reduced_decode:
            return self(read_picture(path), thresholds)
        reduced = read_reduced(path, self.contract)
        return reduced.to_whole(self(reduced.picture, thresholds))

    def chosen(self, outputs: Mapping[str, Array], thresholds: Thresholds) -> Detections:
        """The boxes of an image in pixels of the input. Raises UsageError, see `thresholds_for`."""
        for name, value in outputs.items():
            if bad := int(np.count_nonzero(~np.isfinite(value))):
                raise UsageError(
                    f"{bad} of {value.size} values of '{name}' are NaN or infinite: the weights of "
                    f"{self.name} are damaged, or half precision is too small for them."
                )
        if self.within is not None:
            return rows_in_use(outputs).above(thresholds.score)
        boxes, scores = (_floats(outputs[name][0]) for name in ("boxes", "scores"))
        rows, labels = kept_candidates(
            boxes, scores, thresholds.score, thresholds.iou, thresholds.limit
        )
        evidence = self._evidence(outputs, rows, boxes[rows])
        return Detections(boxes[rows], scores[rows, labels], labels, evidence)

    def _evidence(
        self, outputs: Mapping[str, Array], rows: Indices, boxes: Floats
    ) -> Evidence | None:
        if LOGITS not in outputs:
            return None
        maps, size = maps_of(outputs), (self.contract.height, self.contract.width)
        return Evidence(_floats(outputs[LOGITS][0])[rows], features_at(maps, boxes, *size))

    def thresholds_for(
        self, score: float | None = None, iou: float | None = None, limit: int | None = None
    ) -> Thresholds:
        """The recipe's where none are given.

        Raises UsageError for others than those that a file suppresses with by itself.
        """
        if self.within is None:
            return self.boxes.thresholds(score, iou, limit)
        own = self.within
        if iou not in (None, own.iou):
            raise UsageError(
                f"{self.name} suppresses by itself with an IoU of {own.iou:g}; export it without --nms "
                "to choose another."
            )
        if score is not None and score < own.score:
            raise UsageError(
                f"{self.name} drops scores up to {own.score:g} by itself; export it without --nms to "
                "choose a lower one."
            )
        return Thresholds(own.score if score is None else score, own.iou, own.limit)

    def input_of(self, pixels: Pixels) -> Array:
        """What the network takes, of H W 3 in its size."""
        contract = self.contract
        if not self.takes_pixels:
            return normalised(pixels, contract.order, contract.mean, contract.std)
        laid = pixels[None] if self.image.axes == "NHWC" else pixels.transpose(2, 0, 1)[None]
        return np.ascontiguousarray(laid, dtype=self.image.dtype)


def detector_of_bundle(bundle: Bundle, opened: Runnable | None = None) -> Detector:
    """Of what computes it, opened here if it is not yet. Raises UsageError if its model finds no boxes."""
    contract = bundle.image_contract
    if contract is None:
        raise UsageError(f"{bundle.path.name} is no detector: it takes no images.")
    boxes = _boxes(contract, bundle.path.name)
    (image,) = bundle.inputs
    file = opened or open_whole(bundle)
    return Detector(
        bundle.path.name, image, contract, boxes, lambda value: file.run({image.name: value}),
        takes_pixels=bundle.takes_pixels, within=bundle.suppression,
    )  # fmt: skip


def detector_of_model(model: Model) -> Detector:
    """In eager float32. Raises UsageError if it finds no boxes."""
    contract = model.recipe.contract if model.recipe else None
    (image,) = model.inputs or (None,)
    if image is None or not isinstance(contract, ImageContract):
        raise UsageError(f"{model.name} has no recipe of a detector, so it has no boxes.")
    boxes = _boxes(contract, model.name)
    height, width = image.shape[-2:]
    sized = ImageContract(height, width, 1, contract.order, contract.mean, contract.std, boxes)

    def run(value: Array) -> Mapping[str, Array]:
        results: Any = model(torch.from_numpy(value))
        names = (spec.name for spec in model.outputs)
        return {name: made.numpy() for name, made in zip(names, results, strict=True)}

    return Detector(model.name, image, sized, boxes, run, weights=model.weights)


def _boxes(contract: ImageContract, name: str) -> Boxes:
    if not isinstance(contract.output, Boxes):
        raise UsageError(f"{name} is no detector: its recipe has no [image.boxes].")
    return contract.output


def _floats(value: Any) -> Floats:
    result: Floats = np.asarray(value, dtype=np.float32)
    return result
