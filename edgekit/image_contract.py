"""The contract of image networks: which pictures go in, and whether scores or a picture come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.contract import Size, TensorSpec
from edgekit.errors import UsageError

COLOURS = 3


@dataclass(frozen=True)
class Logits:
    """One score per class, before softmax."""

    classes: int

    def spec(self, height: int, width: int) -> TensorSpec:
        meaning = f"scores of {self.classes} classes, before softmax"
        return TensorSpec("logits", (1, self.classes), axes="NC", meaning=meaning)

    def check(self, architecture: Mapping[str, Any]) -> None:
        _require_same("classes", self.classes, architecture)


@dataclass(frozen=True)
class Picture:
    """A picture in [0, 1], `scale` times as high and wide as the input."""

    scale: int

    def spec(self, height: int, width: int) -> TensorSpec:
        return TensorSpec(
            "picture", (1, COLOURS, height * self.scale, width * self.scale), axes="NCHW",
            low=0.0, high=1.0, meaning="RGB, not clamped: a few values pass low and high",
        )  # fmt: skip

    def check(self, architecture: Mapping[str, Any]) -> None:
        _require_same("scale", self.scale, architecture)


OUTPUTS: Mapping[str, type[Logits] | type[Picture]] = {"logits": Logits, "picture": Picture}


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
    output: Logits | Picture

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> ImageContract:
        """Of the table `[image]` with `[image.logits]` or `[image.picture]`. Raises ValueError."""
        fields = dict(table)
        found = [name for name in OUTPUTS if name in fields]
        if len(found) != 1:
            raise ValueError("[image] needs one table of [image.logits] and [image.picture]")
        output = OUTPUTS[found[0]](**fields.pop(found[0]))
        return cls(**fields, output=output)

    def specs(
        self, height: int | None, width: int | None, frames: int | None
    ) -> tuple[TensorSpec, TensorSpec]:
        """Image and output for a size in pixels; None takes the default. Raises UsageError."""
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
        return image, self.output.spec(high, wide)

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
        self.output.check(architecture)

    def declared(self) -> dict[str, object]:
        """What tensor shapes do not say, for manifests."""
        mean, std = list(self.mean), list(self.std)
        kind = type(self.output).__name__.lower()
        output = {"kind": kind, **asdict(self.output)}
        return {"image": {"order": self.order, "mean": mean, "std": std, "output": output}}


def _require_same(field: str, declared: int, architecture: Mapping[str, Any]) -> None:
    if declared < 1:
        raise ValueError(f"'{field}' must be at least 1")
    built = architecture.get(field, declared)
    if built != declared:
        raise ValueError(f"the architecture has {field} {built} and the image table {declared}")
