"""What an exported detector may do itself: normalise pixels, tell its evidence, suppress overlapping boxes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.box_contract import Thresholds
from edgekit.contract import TensorSpec
from edgekit.detection.evidence import LOGITS, MAPS
from edgekit.detection.suppress_op import suppress
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import EXAMPLE_SEED, Model


@dataclass(frozen=True)
class InTheFile:
    takes_pixels: bool = False
    """RGB from 0 to 255 as uint8 goes in, instead of normalised values."""
    suppression: Thresholds | None = None
    """Boxes, scores and labels of what is shown come out, instead of all candidates."""
    evidence: bool = False
    """Logits and feature maps come out as well, for filters of hallucinations."""

    def to_json(self) -> dict[str, object]:
        """For a manifest; nothing for a file that is the network alone."""
        told: dict[str, object] = {}
        if self.takes_pixels:
            told["takes_pixels"] = True
        if self.suppression is not None:
            told["suppression"] = asdict(self.suppression)
        if self.evidence:
            told["evidence"] = True
        return told


NETWORK_ONLY = InTheFile()
TELLING = ("leyolo", "mobiledet", "codenet")
"""Families whose networks have a method `evidence`."""


class FromPixels(nn.Module):
    """uint8 N 3 H W, or N H W 3, in RGB to what the network takes."""

    def __init__(self, network: nn.Module, contract: ImageContract, axes: str) -> None:
        super().__init__()
        self.network = network
        self.is_bgr, self.is_channels_last = contract.order == "BGR", axes == "NHWC"
        mean, std = (
            torch.tensor(row).reshape(1, -1, 1, 1) for row in (contract.mean, contract.std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> object:
        values = pixels.to(torch.float32)
        if self.is_channels_last:
            values = values.permute(0, 3, 1, 2)
        if self.is_bgr:
            red, green, blue = torch.split(values, 1, 1)
            values = torch.cat([blue, green, red], 1)
        return self.network(values * self.scale + self.shift)


class Telling(nn.Module):
    """Boxes, scores, logits and feature maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        evidence: Any = self.network.evidence
        told: tuple[Tensor, ...] = evidence(image)
        return told


class Suppressing(nn.Module):
    def __init__(self, network: nn.Module, thresholds: Thresholds, best_class_only: bool) -> None:
        super().__init__()
        self.network = network
        self.thresholds, self.best_class_only = thresholds, best_class_only

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = self.network(image)
        asked = self.thresholds
        shown: tuple[Tensor, Tensor, Tensor] = suppress(
            boxes, scores, asked.score, asked.iou, asked.limit, self.best_class_only
        )
        return shown


def with_work(model: Model, work: InTheFile, axes: str, *, best_class_only: bool) -> Model:
    """The model as its file is to be; `axes` are those of pixels. Raises UsageError.

    With `best_class_only` a box stands for one class, as in Core ML's operator.
    """
    if work.evidence and work.suppression is not None:
        raise UsageError(
            "A file that suppresses boxes by itself keeps no evidence of them; give --safety or --nms, not both."
        )
    if work.evidence:
        model = with_evidence(model)
    if work.takes_pixels:
        model = _from_pixels(model, axes)
    if work.suppression is not None:
        if model.boxes is None:
            raise UsageError(f"{model.name} is no detector, so there are no boxes to suppress.")
        module = Suppressing(model.module, work.suppression, best_class_only).eval()
        model = replace(model, module=module, outputs=_shown(work.suppression, model.outputs[0]))
    return model


def with_evidence(model: Model) -> Model:
    """The model with the outputs that filters judge by: see detection/evidence.py. Raises UsageError."""
    if model.boxes is None or not hasattr(model.module, "evidence"):
        raise UsageError(
            f"{model.name} tells no logits and features of its boxes, which filters of hallucinations judge "
            f"by; {', '.join(TELLING)} do."
        )
    module = Telling(model.module).eval().requires_grad_(False)
    with torch.inference_mode():
        _, _, logits, *maps = module(*model.example_inputs)
    told = [TensorSpec(LOGITS, tuple(logits.shape), axes="NAC", meaning="of the scores")]
    for place, values in enumerate(maps):
        meaning = f"map {place} of what the heads look at, for filters of hallucinations"
        told.append(TensorSpec(f"{MAPS}{place}", tuple(values.shape), axes="NCHW", meaning=meaning))
    return replace(model, module=module, outputs=(*model.outputs, *told))


def _from_pixels(model: Model, axes: str) -> Model:
    contract = model.recipe.contract if model.recipe else None
    if not isinstance(contract, ImageContract):
        raise UsageError(
            f"{model.name} has no recipe that says how its images are normalised, so that it cannot "
            "take pixels."
        )
    (image,) = model.inputs
    count, colours, height, width = image.shape
    shape = (count, height, width, colours) if axes == "NHWC" else image.shape
    spec = TensorSpec(
        "image", shape, "uint8", axes, 0.0, 255.0, "RGB from 0 to 255, as pictures are decoded"
    )
    generator = torch.Generator().manual_seed(EXAMPLE_SEED)
    example = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    module = FromPixels(model.module, contract, axes).eval().requires_grad_(False)
    return replace(model, module=module, inputs=(spec,), example_inputs=(example,))


def _shown(thresholds: Thresholds, boxes: TensorSpec) -> tuple[TensorSpec, ...]:
    rows = (1, thresholds.limit)
    return (
        replace(
            boxes, shape=(*rows, 4),
            meaning="x1 y1 x2 y2 in pixels of the input, best first; unused rows are 0",
        ),
        TensorSpec("scores", rows, axes="NA", low=0.0, high=1.0, meaning="of the boxes"),
        TensorSpec("labels", rows, "int64", "NA", meaning="classes of the boxes; unused rows: -1"),
    )  # fmt: skip
