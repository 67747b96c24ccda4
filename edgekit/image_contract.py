"""The contract of image networks: which pictures go in, and whether scores, a picture or boxes come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.box_contract import Boxes
from edgekit.contract import Size, TensorSpec
from edgekit.errors import UsageError

COLOURS = 3


@dataclass(frozen=True)
class Logits:
    """One score per class, before softmax."""

    classes: int

    def specs(self, height: int, width: int) -> tuple[TensorSpec, ...]:
        meaning = f"scores of {self.classes} classes, before softmax"
        return (TensorSpec("logits", (1, self.classes), axes="NC", meaning=meaning),)

    def check(self) -> None:
        _require_positive("classes", self.classes)


@dataclass(frozen=True)
class Picture:
    """A picture in [0, 1], `scale` times as high and wide as the input."""

    scale: int

    def specs(self, height: int, width: int) -> tuple[TensorSpec, ...]:
        picture = TensorSpec(
            "picture", (1, COLOURS, height * self.scale, width * self.scale), axes="NCHW",
            low=0.0, high=1.0, meaning="RGB, not clamped: a few values pass low and high",
        )  # fmt: skip
        return (picture,)

    def check(self) -> None:
        _require_positive("scale", self.scale)


Output = Logits | Picture | Boxes
KINDS = ("logits", "picture", "boxes")
"""Tables of a recipe, and what manifests call the outputs."""


@dataclass(frozen=True)
class ImageContract:
    """One image N 3 H W goes in, as (x - mean) / std of its values x in [0, 1]."""

    height: int
    """Default size in pixels."""
    width: int
    stride: int
    """Height and width must be multiples of it; 1: any size."""
    order: str
    """Of the colours, RGB or BGR."""
    mean: tuple[float, ...]
    """Per channel, in the same order."""
    std: tuple[float, ...]
    output: Output

    @classmethod
    def from_toml(cls, table: Mapping[str, Any], folder: Path) -> ImageContract:
        """Of the table `[image]` with one of `[image.logits]`, `[image.picture]` and `[image.boxes]`.

        `folder` is the recipe's. Raises ValueError or TypeError.
        """
        fields = dict(table)
        found = [name for name in KINDS if name in fields]
        if len(found) != 1:
            tables = ", ".join(f"[image.{name}]" for name in KINDS)
            raise ValueError(f"[image] needs one table of {tables}")
        kind, sizes = found[0], fields.pop(found[0])
        output = _simple(kind, sizes) if kind != "boxes" else Boxes.from_toml(sizes, folder)
        return cls(**fields, output=output)

    @classmethod
    def from_manifest(cls, declared: Mapping[str, Any], height: int, width: int) -> ImageContract:
        """Of what `declared` gave, for a file that takes images of one size. Raises ValueError."""
        fields = dict(declared["output"])
        kind = fields.pop("kind")
        output = _simple(kind, fields) if kind != "boxes" else Boxes.from_json(fields)
        mean, std = tuple(declared["mean"]), tuple(declared["std"])
        return cls(height, width, 1, declared["order"], mean, std, output)

    def specs(
        self, height: int | None, width: int | None, frames: int | None
    ) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
        """Image and outputs for a size in pixels; None takes the default. Raises UsageError."""
        if frames is not None:
            raise UsageError("This model takes one image and makes no video; leave --frames away.")
        high = self._side("height", self.height if height is None else height)
        wide = self._side("width", self.width if width is None else width)
        ends = [
            (value - mean) / std for value in (0.0, 1.0) for mean, std in zip(self.mean, self.std)
        ]
        image = TensorSpec(
            "image", (1, COLOURS, high, wide), axes="NCHW", low=min(ends), high=max(ends),
            meaning=f"{self.order}, {self._values()}",
        )  # fmt: skip
        return image, self.output.specs(high, wide)

    def _side(self, name: str, pixels: int) -> int:
        if pixels < self.stride or pixels % self.stride:
            near = max(self.stride, round(pixels / self.stride) * self.stride)
            raise UsageError(
                f"The {name} {pixels} is no multiple of the network's stride {self.stride}; "
                f"the nearest that is: {near}."
            )
        return pixels

    def _values(self) -> str:
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return "values in [0, 1]"
        mean, std = (", ".join(f"{value:g}" for value in row) for row in (self.mean, self.std))
        return f"(x - mean) / std of x in [0, 1], mean {mean}, std {std}"

    def size_of(self, given: tuple[int, ...]) -> Size:
        """The size at which the input has this shape. Raises UsageError."""
        if len(given) != 4:
            raise UsageError(f"An input of shape {given} is no image N C H W.")
        return Size(given[2], given[3])

    def check(self, architecture: Mapping[str, Any]) -> None:
        """Raises ValueError if there are no such images, or the network makes something else."""
        if self.stride < 1:
            raise ValueError("'stride' must be at least 1")
        if self.order not in ("RGB", "BGR"):
            raise ValueError(f"'order' is {self.order!r} and must be RGB or BGR")
        for field in ("mean", "std"):
            row = getattr(self, field)
            if len(row) != COLOURS or not all(type(value) in (int, float) for value in row):
                raise ValueError(f"'{field}' must be {COLOURS} numbers, one per colour")
        if min(self.std) <= 0:
            raise ValueError("'std' must be above 0")
        if isinstance(self.output, Picture) and self.order != "RGB":  # `run` writes it as a PNG
            raise ValueError("'order' is BGR, and a network that makes pictures works in RGB")
        self.output.check()
        _require_built_so(self.output, architecture)

    def declared(self) -> dict[str, object]:
        """What tensor shapes do not say, for manifests."""
        mean, std = list(self.mean), list(self.std)
        boxes = self.output.to_json() if isinstance(self.output, Boxes) else asdict(self.output)
        output = {"kind": type(self.output).__name__.lower(), **boxes}
        return {"image": {"order": self.order, "mean": mean, "std": std, "output": output}}


def _simple(kind: str, fields: Mapping[str, Any]) -> Logits | Picture:
    return Logits(**fields) if kind == "logits" else Picture(**fields)


def _require_positive(field: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"'{field}' must be at least 1")


def _require_built_so(output: Output, architecture: Mapping[str, Any]) -> None:
    """Where the architecture has a field of the output's, such as `classes`, they must agree."""
    for field in ("scale", "classes"):
        declared = getattr(output, field, None)
        built = architecture.get(field, declared)
        if declared is not None and built != declared:
            raise ValueError(f"the architecture has {field} {built} and the image table {declared}")
