"""The contract of detectors: candidate boxes with a score per class, and how users want them chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from edgekit.contract import TensorSpec
from edgekit.detection.class_names import class_names
from edgekit.errors import UsageError

RESIZES = ("letterbox", "stretch")


@dataclass(frozen=True)
class Thresholds:
    """Which candidates are shown."""

    score: float
    """Only scores above it."""
    iou: float
    """Of two boxes of a class that overlap more, the better stays; 1 suppresses nothing."""
    limit: int
    """Most boxes of a picture."""

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.score <= 1:
            raise UsageError(f"A score of {self.score:g} is none: give a number from 0 to 1.")
        if not 0 < self.iou <= 1:
            raise UsageError(f"An IoU of {self.iou:g} is none: give a number above 0, at most 1.")
        if self.limit < 1:
            raise UsageError(f"At most {self.limit} boxes are none: give 1 or more.")


@dataclass(frozen=True)
class Boxes:
    """Every candidate of a picture, before any suppression: N A 4 corners and N A C scores."""

    classes: int
    """C, without any background."""
    names: tuple[str, ...]
    """Of the classes, in order; "" for a column that stands for none."""
    strides: tuple[int, ...]
    """Pixels per cell of each level, in the order of the candidates."""
    per_cell: tuple[int, ...]
    """Candidates per cell of each level."""
    resize: str
    """"letterbox" keeps the shape of a picture and fills the rest; "stretch" does not keep it."""
    fill: int = 114
    """Grey value, 0 to 255, beside a letterboxed picture."""
    score: float = 0.3
    """Least score of a box that is shown."""
    iou: float = 0.6
    """Of two boxes of a class that overlap more, the better stays; 1 suppresses nothing."""
    limit: int = 100
    """Most boxes of a picture."""

    @classmethod
    def from_toml(cls, table: Mapping[str, Any], folder: Path) -> Boxes:
        """`folder` is the recipe's, for a file of names. Raises ValueError or TypeError."""
        fields = dict(table)
        given: str | Sequence[str] = fields.pop("names", ())
        return cls(names=class_names(given, folder), **fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Boxes:
        lists = {field: tuple(data[field]) for field in ("names", "strides", "per_cell")}
        return cls(**{**data, **lists})

    def to_json(self) -> dict[str, object]:
        lists = {field: list(getattr(self, field)) for field in ("names", "strides", "per_cell")}
        return {**asdict(self), **lists}

    @property
    def used_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name)

    def thresholds(
        self, score: float | None = None, iou: float | None = None, limit: int | None = None
    ) -> Thresholds:
        """The recipe's, or others. Raises UsageError."""
        return Thresholds(
            self.score if score is None else score,
            self.iou if iou is None else iou,
            self.limit if limit is None else limit,
        )

    def candidates(self, height: int, width: int) -> int:
        """A: a level has a cell for every begun stride."""
        return sum(
            ceil(height / stride) * ceil(width / stride) * count
            for stride, count in zip(self.strides, self.per_cell, strict=True)
        )

    def specs(self, height: int, width: int) -> tuple[TensorSpec, ...]:
        count = self.candidates(height, width)
        corners = "x1 y1 x2 y2 in pixels of the input, not clamped: boxes may pass its borders"
        return (
            TensorSpec(
                "boxes", (1, count, 4), axes="NAX", low=0.0, high=float(max(height, width)),
                meaning=corners,
            ),
            TensorSpec(
                "scores", (1, count, self.classes), axes="NAC", low=0.0, high=1.0,
                meaning=f"of {self.classes} classes, before suppression",
            ),
        )  # fmt: skip

    def check(self) -> None:
        """Raises ValueError."""
        if self.classes < 1:
            raise ValueError("'classes' must be at least 1")
        if len(self.names) != self.classes:
            raise ValueError(f"'names' has {len(self.names)} names and 'classes' is {self.classes}")
        for field in ("strides", "per_cell"):
            row = getattr(self, field)
            if not row or not all(type(value) is int and value > 0 for value in row):
                raise ValueError(f"'{field}' must be whole numbers above 0, one per level")
        if len(self.strides) != len(self.per_cell):
            raise ValueError(
                f"'strides' has {len(self.strides)} levels and 'per_cell' {len(self.per_cell)}"
            )
        if self.resize not in RESIZES:
            raise ValueError(f"'resize' is {self.resize!r} and must be {' or '.join(RESIZES)}")
        if not 0 <= self.fill <= 255:
            raise ValueError(f"'fill' is {self.fill} and must be a grey value from 0 to 255")
        if not (0 <= self.score <= 1 and 0 < self.iou <= 1):
            raise ValueError("'score' must be from 0 to 1, and 'iou' above 0 and up to 1")
        if self.limit < 1:
            raise ValueError("'limit' must be at least 1")
