"""Annotations in COCO's JSON, checked, so that no evaluator meets what it does not expect."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError, first_line

OUTSIDE_PX = 1.0
"""Annotation tools overshoot by fractions of a pixel, which is not worth a note."""


@dataclass(frozen=True)
class CocoImage:
    id: int
    file: Path
    width: int | None
    height: int | None


@dataclass(frozen=True)
class CocoBox:
    image: int
    category: int
    box: tuple[float, float, float, float]
    """x, y, width, height in pixels, cut at the picture's borders."""
    area: float
    is_crowd: bool
    """A region of many objects: a box found in it is neither right nor wrong."""


@dataclass(frozen=True)
class Annotations:
    images: tuple[CocoImage, ...]
    """Those without a box too: whatever is found in them is wrong."""
    categories: Mapping[int, str]
    boxes: tuple[CocoBox, ...]
    notes: tuple[str, ...]
    """What was left out or changed, in sentences."""


def read_annotations(path: Path, folder: Path, *, may_lack: bool = False) -> Annotations:
    """Raises UsageError for files that are not COCO's, and for pictures that `folder` lacks.

    Args:
        may_lack: the caller looks for the pictures itself.
    """
    told = _read(path)
    reader = _Reader(path.name)
    categories = reader.categories(told["categories"])
    images = reader.images(told["images"], folder)
    missing = [image.file for image in images.values() if not image.file.is_file()]
    if missing and not may_lack:
        raise UsageError(
            f"{len(missing)} of the {len(images)} pictures of {path.name} are missing, first {missing[0]}."
        )
    boxes = [
        box
        for number, entry in enumerate(told["annotations"])
        if (box := reader.box(number, entry, images, categories)) is not None
    ]
    return Annotations(tuple(images.values()), categories, tuple(boxes), reader.told())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The annotations {path} cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no JSON: it is no text.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {first_line(error)}.") from error
    if not isinstance(told, dict):
        raise UsageError(f"{path} holds no annotations of COCO: its JSON is no object.")
    for field in ("images", "annotations", "categories"):
        if not isinstance(told.get(field), list):
            raise UsageError(f"{path} holds no annotations of COCO: it has no list '{field}'.")
    if not told["images"]:
        raise UsageError(f"{path} names no pictures.")
    return told


class _Reader:
    """Reads entries of one file, and counts what it leaves out or changes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()

    def told(self) -> tuple[str, ...]:
        return tuple(f"{count} {what}" for what, count in sorted(self.counts.items()))

    def categories(self, entries: list[Any]) -> dict[int, str]:
        found: dict[int, str] = {}
        for number, entry in enumerate(entries):
            at = f"categories[{number}]"
            key, name = self._integer(entry, "id", at), self._field(entry, "name", at)
            if key in found:
                raise UsageError(f"{self.name}: two categories have the id {key}.")
            found[key] = str(name)
        return found

    def images(self, entries: list[Any], folder: Path) -> dict[int, CocoImage]:
        found: dict[int, CocoImage] = {}
        for number, entry in enumerate(entries):
            at = f"images[{number}]"
            key = self._integer(entry, "id", at)
            file = folder / str(self._field(entry, "file_name", at))
            if key in found:
                raise UsageError(f"{self.name}: two images have the id {key}.")
            sides = (entry.get("width"), entry.get("height"))
            width, height = (side if isinstance(side, int) and side > 0 else None for side in sides)
            found[key] = CocoImage(key, file, width, height)
        return found

    def box(
        self,
        number: int,
        entry: Any,
        images: Mapping[int, CocoImage],
        categories: Mapping[int, str],
    ) -> CocoBox | None:
        at = f"annotations[{number}]"
        image, category = (
            self._integer(entry, "image_id", at),
            self._integer(entry, "category_id", at),
        )
        if image not in images:
            raise UsageError(
                f"{self.name}: {at} belongs to the image {image}, which is not listed."
            )
        if category not in categories:
            raise UsageError(f"{self.name}: {at} has the category {category}, which is not listed.")
        given = self._field(entry, "bbox", at)
        if not _is_box(given):
            raise UsageError(f"{self.name}: the bbox of {at} is {given!r}, not four numbers.")
        box = self._cut(given, images[image])
        if box is None:
            return None
        area = entry.get("area")
        known = isinstance(area, int | float) and math.isfinite(area) and area > 0
        return CocoBox(
            image, category, box, float(area) if known else box[2] * box[3],
            bool(entry.get("iscrowd", 0)),
        )  # fmt: skip

    def _cut(
        self, given: list[float], image: CocoImage
    ) -> tuple[float, float, float, float] | None:
        x, y, width, height = (float(value) for value in given)
        if width <= 0 or height <= 0:
            self.counts["boxes without width or height were left out"] += 1
            return None
        left, top = max(0.0, x), max(0.0, y)
        right = min(x + width, image.width or math.inf)
        bottom = min(y + height, image.height or math.inf)
        if right <= left or bottom <= top:
            self.counts["boxes that lie beside their picture were left out"] += 1
            return None
        if max(left - x, top - y, x + width - right, y + height - bottom) > OUTSIDE_PX:
            self.counts["boxes that pass their picture's borders were cut there"] += 1
        return left, top, right - left, bottom - top

    def _field(self, entry: Any, field: str, at: str) -> Any:
        if not isinstance(entry, dict) or field not in entry:
            raise UsageError(f"{self.name}: {at} has no '{field}'.")
        return entry[field]

    def _integer(self, entry: Any, field: str, at: str) -> int:
        value = self._field(entry, field, at)
        if type(value) is not int:
            raise UsageError(f"{self.name}: '{field}' of {at} is {value!r}, not a whole number.")
        return value


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(type(side) in (int, float) and math.isfinite(side) for side in value)
    )
