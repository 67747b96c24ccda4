"""Pictures of a folder, and pictures with boxes in COCO's format, as data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from edgekit.detection.annotated_picture import another_size, read_annotated
from edgekit.detection.coco_annotations import Annotations, read_annotations
from edgekit.detection.picture_file import SUFFIXES, read_picture
from edgekit.distillation.damage import DamagedError, OnDamage, readable
from edgekit.distillation.run_folder import digest
from edgekit.errors import UsageError, first_line


@dataclass(frozen=True)
class Cut:
    """How a square is cut out of a picture, by torch's generator, which the loop seeds."""

    flip: float = 0.5
    random_crop: bool = True
    """Else from the middle."""
    whole: tuple[float, float] = (0.0, 0.0)
    """How much of the longer side is kept, of a picture that is no square: from 0, where the shorter side fills
    the square, to 1, where all of the picture is in it. Drawn between the two."""
    fill: int = 0
    """Grey value of what the picture leaves free."""


FROM_THE_MIDDLE = Cut(flip=0.0, random_crop=False)


@dataclass(frozen=True)
class _Placed:
    """Where a picture's square lies: first grown by `scale`, then cut at `left`, `top`, which are below 0 where the
    picture is smaller, then mirrored."""

    scale: float
    left: int
    top: int
    mirrored: bool


class Pictures(Dataset[Tensor]):
    """uint8 3 size size: resized so that the shorter side has `size_px`, then cut."""

    def __init__(
        self,
        source: Path | Sequence[Path],
        size_px: int,
        cut: Cut = FROM_THE_MIDDLE,
        *,
        on_damage: OnDamage = "refuse",
    ) -> None:
        """Of a folder and those in it, or of files. Decodes each once, to find the damaged.

        Raises UsageError for them, and if there are none.
        """
        files = _files_in(source) if isinstance(source, Path) else source
        found, self.skipped = readable(files, _size, on_damage)
        self.files = list(found)
        self._size_px, self._cut = size_px, cut
        base = source if isinstance(source, Path) else None
        names = ((file.relative_to(base) if base else file).as_posix() for file in self.files)
        self.made_by = {"size_px": size_px, "cut": cut, "files": digest(names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return _cut_out(read_picture(self.files[index]), self._size_px, self._cut)[0]


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(
            f"The folder {folder} has no pictures: no file ends in {', '.join(SUFFIXES)}."
        )
    return files


class CocoDetection(Dataset[dict[str, Tensor]]):
    """Items {"picture": uint8 3 S S, "boxes": float32 M 4, "labels": int64 M} of annotations in COCO's JSON.

    Boxes are left, top, right, bottom in pixels of the item's picture. M is the same for all items, so
    that they stack: rows without a box are zeros, and their label is -1. Labels count from 0 in the order
    of the categories' ids. Crowds are left out, as is a box of which less than `least_visible` is left;
    `notes` says in sentences what of the annotations was changed or left out.
    """

    def __init__(
        self,
        annotations: Path,
        folder: Path,
        size_px: int,
        cut: Cut = FROM_THE_MIDDLE,
        *,
        least_visible: float = 0.25,
        on_damage: OnDamage = "refuse",
    ) -> None:
        """Raises UsageError for files that cannot be read, or annotations that are not COCO's."""
        told = read_annotations(annotations, folder, may_lack=True)
        self.categories = tuple(name for _, name in sorted(told.categories.items()))
        self.notes = told.notes
        boxes_of = _boxes_by_file(told)
        self._image_of = {image.file: image for image in told.images}
        found, self.skipped = readable(list(boxes_of), self._require_size, on_damage)
        self.files = list(found)
        self._boxes = [boxes_of[file] for file in self.files]
        self.most_boxes = max((len(boxes) for boxes in self._boxes), default=0)
        self._size_px, self._cut, self._least_visible = size_px, cut, least_visible
        self.made_by = {
            "size_px": size_px,
            "cut": cut,
            "least_visible": least_visible,
            "categories": self.categories,
            "boxes": digest((file.name, boxes_of[file]) for file in self.files),
        }

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        stored = read_annotated(self._image_of[self.files[index]])
        picture, placed = _cut_out(stored, self._size_px, self._cut)
        marked = torch.tensor(self._boxes[index], dtype=torch.float32).reshape(-1, 5)
        boxes, is_kept = _move(marked[:, :4], placed, self._size_px, self._least_visible)
        labels = torch.full((self.most_boxes,), -1)
        padded = torch.zeros(self.most_boxes, 4)
        count = int(is_kept.sum())
        padded[:count] = boxes[is_kept]
        labels[:count] = marked[is_kept, 4].long()
        return {"picture": picture, "boxes": padded, "labels": labels}

    def _require_size(self, file: Path) -> None:
        size = _size(file)
        image = self._image_of[file]
        declared = image.width or size[0], image.height or size[1]
        if declared not in (size, size[::-1]):  # as it is stored, or turned upright
            raise DamagedError(f"it {another_size(size, declared)}")


def _boxes_by_file(told: Annotations) -> dict[Path, list[tuple[float, ...]]]:
    """x, y, width, height, label of each box that is no crowd's; pictures without one have an empty list."""
    label_of = {key: label for label, key in enumerate(sorted(told.categories))}
    file_of = {image.id: image.file for image in told.images}
    boxes: dict[Path, list[tuple[float, ...]]] = {file: [] for file in file_of.values()}
    for one in told.boxes:
        if not one.is_crowd:
            boxes[file_of[one.image]].append((*one.box, label_of[one.category]))
    return boxes


def _move(
    boxes: Tensor, placed: _Placed, size_px: int, least_visible: float
) -> tuple[Tensor, Tensor]:
    """x, y, width, height in the file's picture to corners in the item's; and which are left of it."""
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) * placed.scale
    corners = corners - torch.tensor([placed.left, placed.top, placed.left, placed.top])
    whole = (corners[:, 2:] - corners[:, :2]).prod(1)
    corners = corners.clamp(0, size_px)
    left = (corners[:, 2:] - corners[:, :2]).prod(1)
    if placed.mirrored:
        corners = torch.stack(
            [size_px - corners[:, 2], corners[:, 1], size_px - corners[:, 0], corners[:, 3]], 1
        )
    return corners, (left > 0) & (left >= least_visible * whole)


def _cut_out(picture: Image.Image, size_px: int, cut: Cut) -> tuple[Tensor, _Placed]:
    scale = size_px / _side(picture.size, cut.whole)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, top = (_offset(side - size_px, cut) for side in (width, height))
    mirrored = cut.flip > 0 and float(torch.rand(())) < cut.flip
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    if min(width, height) < size_px:
        canvas = Image.new(picture.mode, (size_px, size_px), (cut.fill,) * len(picture.getbands()))
        canvas.paste(resized, (-left, -top))
        square = np.asarray(canvas)
    else:
        square = np.asarray(resized.crop((left, top, left + size_px, top + size_px)))
    if mirrored:
        square = square[:, ::-1]
    pixels = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))
    return pixels, _Placed(scale, left, top, mirrored)


def _side(size: tuple[int, int], whole: tuple[float, float]) -> float:
    """Of the square in the picture's own pixels."""
    shorter, longer = min(size), max(size)
    low, high = whole
    if shorter == longer or high == 0:
        return shorter
    share = low if low == high else low + (high - low) * float(torch.rand(()))
    return shorter + (longer - shorter) * share


def _offset(spare: int, cut: Cut) -> int:
    """Where the square begins along one side that is `spare` pixels longer, or shorter."""
    place = _below(abs(spare) + 1) if cut.random_crop else abs(spare) // 2
    return place if spare >= 0 else -place


def _size(file: Path) -> tuple[int, int]:
    """Width and height as stored, of a file that decodes to its end."""
    if not file.exists():
        raise DamagedError("there is no such file")
    try:
        with Image.open(file) as opened:
            size: tuple[int, int] = opened.size
            opened.draft(
                "L", (1, 1)
            )  # a JPEG at an eighth, to save time; no other format knows of it
            opened.load()
    except UnidentifiedImageError as error:
        raise DamagedError("it is no picture") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedError(f"it cannot be read ({first_line(error)})") from error
    return size


def _below(count: int) -> int:
    return int(torch.randint(count, ())) if count > 1 else 0
