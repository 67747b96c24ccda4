"""Pictures with exact truth: cut-out things pasted on photographs.

Where there is no annotated set at hand, a stamp's alpha channel gives its box to the pixel. A detector
that was trained on composites has learnt composites: say so wherever its figures stand.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from edgekit.detection.picture_file import read_picture
from edgekit.errors import UsageError

STAMP_SIDE_PX = 384
"""Stamps are kept no larger, photographs no smaller than what a composite shows of them."""
OPAQUE = 128
"""Alpha from which on a pixel is the thing's."""


@dataclass(frozen=True)
class CompositeOptions:
    height: int = 320
    width: int = 320
    objects: tuple[int, int] = (1, 5)
    """Fewest and most in a picture."""
    share: tuple[float, float] = (0.12, 0.6)
    """Of the picture's shorter side: the longer side of a stamp, drawn evenly on a logarithmic scale."""
    turn_degrees: float = 15.0
    stretch: float = 0.0
    """Most that a stamp's aspect ratio is changed by, as a share of it."""
    hue: float = 0.0
    """Most that a stamp's hues are turned by, as a share of the circle of hues."""
    most_hidden: float = 0.5
    """Of a thing's pixels, behind others or outside of the picture; what is hidden more is not placed."""
    quality: tuple[int, int] = (60, 95)
    """Of the JPEG that everything goes through: seams of pasting would be a clue that real pictures lack."""


@dataclass(frozen=True)
class Composite:
    picture: Image.Image
    """RGB."""
    boxes: npt.NDArray[np.float32]
    """K 4: x1 y1 x2 y2 around all visible pixels."""
    labels: npt.NDArray[np.int64]


class Composites:
    """A sequence of `count` pictures; the same seed and index give the same picture.

    Args:
        photographs: backgrounds, any mode and size.
        stamps: files with an alpha channel, by class; a class's place is its label.

    Raises UsageError for a file that is no picture, a stamp without alpha, or a class without stamps.
    """

    def __init__(
        self,
        photographs: Sequence[Path],
        stamps: Mapping[str, Sequence[Path]],
        count: int,
        seed: int,
        options: CompositeOptions = CompositeOptions(),
    ) -> None:
        empty = [name for name, files in stamps.items() if not files]
        if empty or not stamps or not photographs:
            what = f"the class '{empty[0]}' has no stamps" if empty else "there is nothing to paste"
            raise UsageError(f"Composites need photographs and stamps of each class, and {what}.")
        self.options, self.count, self.seed = options, count, seed
        self.classes = tuple(stamps)
        side = 2 * max(options.height, options.width)
        self.photographs = [_photograph(path, side) for path in photographs]
        self.stamps = [[_stamp(path) for path in files] for files in stamps.values()]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Composite:
        if not 0 <= index < self.count:
            raise IndexError(index)
        random = np.random.default_rng([self.seed, index])
        canvas = self._background(random)
        owner = np.full((self.options.height, self.options.width), -1, dtype=np.int16)
        labels: list[int] = []
        sizes: list[int] = []
        for _ in range(int(random.integers(self.options.objects[0], self.options.objects[1] + 1))):
            label = int(random.integers(len(self.stamps)))
            stamp = self._changed(
                self.stamps[label][random.integers(len(self.stamps[label]))], random
            )
            placed = self._placed(stamp, owner, sizes, random)
            if placed is None:
                continue
            left, top = placed
            canvas.paste(stamp, (left, top), stamp)
            mask, rows, columns = _inside(stamp, left, top, owner.shape)
            owner[rows, columns][mask] = len(labels)
            labels.append(label)
            sizes.append(_area(stamp))
        boxes = [_box(owner == number) for number in range(len(labels))]
        return Composite(
            self._as_jpeg(canvas, random),
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array(labels, dtype=np.int64),
        )

    def _background(self, random: np.random.Generator) -> Image.Image:
        photograph = self.photographs[random.integers(len(self.photographs))]
        height, width = self.options.height, self.options.width
        fits = min(photograph.width / width, photograph.height / height)
        scale = fits * random.uniform(0.4, 1.0)
        across, down = round(width * scale), round(height * scale)
        left = int(random.integers(photograph.width - across + 1))
        top = int(random.integers(photograph.height - down + 1))
        box = (left, top, left + across, top + down)
        part = photograph.resize((width, height), Image.Resampling.BILINEAR, box=box)
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part
        return _toned(part, random)

    def _changed(self, stamp: Image.Image, random: np.random.Generator) -> Image.Image:
        """Its size, turn, side and tone; cut to what is opaque."""
        low, high = (np.log(share) for share in self.options.share)
        longer = min(self.options.height, self.options.width) * np.exp(random.uniform(low, high))
        aspect = np.sqrt(1 + self.options.stretch) ** random.uniform(-1, 1)
        width, height = stamp.width * aspect, stamp.height / aspect
        scale = longer / max(width, height)
        size = (max(4, round(width * scale)), max(4, round(height * scale)))
        turn = random.uniform(-1, 1) * self.options.turn_degrees
        changed = stamp.resize(size, Image.Resampling.LANCZOS)
        changed = changed.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        if random.random() < 0.5:
            changed = changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = changed.getchannel("A")
        toned = _toned(_turned_hues(changed.convert("RGB"), self.options.hue, random), random)
        toned.putalpha(alpha)
        return _cut(toned)

    def _placed(
        self,
        stamp: Image.Image,
        owner: npt.NDArray[np.int16],
        sizes: Sequence[int],
        random: np.random.Generator,
    ) -> tuple[int, int] | None:
        """Left and top where enough of it and of all earlier ones is seen; None after twenty tries."""
        height, width = owner.shape
        for _ in range(20):
            left = int(random.integers(-stamp.width // 3, max(1, width - 2 * stamp.width // 3)))
            top = int(random.integers(-stamp.height // 3, max(1, height - 2 * stamp.height // 3)))
            mask, rows, columns = _inside(stamp, left, top, owner.shape)
            after = owner[rows, columns].copy()
            after[mask] = len(sizes)
            rest = owner.copy()
            rest[rows, columns] = after
            least = 1 - self.options.most_hidden
            seen = np.bincount(rest[rest >= 0], minlength=len(sizes) + 1)
            whole = np.array([*sizes, _area(stamp)])
            if (seen >= np.maximum(4, least * whole)).all():
                return left, top
        return None

    def _as_jpeg(self, canvas: Image.Image, random: np.random.Generator) -> Image.Image:
        low, high = self.options.quality
        file = io.BytesIO()
        canvas.save(file, "JPEG", quality=int(random.integers(low, high + 1)))
        return Image.open(file).convert("RGB")


def write_coco(
    composites: Composites, folder: Path, categories: Sequence[str] | None = None
) -> Path:
    """`pictures/000000.jpg` ... and `annotations.json` in COCO's format, whose path is returned.

    With `categories` the things are none of these: no box is annotated, and what a detector of these
    categories finds there is a hallucination.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for index in range(len(composites)):
        made = composites[index]
        name = f"{index:06d}.jpg"
        made.picture.save(pictures / name, quality=95)
        images.append(
            {
                "id": index + 1,
                "file_name": name,
                "width": made.picture.width,
                "height": made.picture.height,
            }
        )
        if categories is not None:
            continue
        for (x1, y1, x2, y2), label in zip(made.boxes.tolist(), made.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
                }
            )  # fmt: skip
    names = composites.classes if categories is None else categories
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(names)],
    }
    file = folder / "annotations.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def _photograph(path: Path, side_px: int) -> Image.Image:
    """RGB, its shorter side no longer than `side_px`."""
    picture = read_picture(path)
    scale = side_px / min(picture.size)
    if scale >= 1:
        return picture
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _stamp(path: Path) -> Image.Image:
    """RGBA of what is opaque, its longer side no longer than STAMP_SIDE_PX."""
    picture = _opened(path)
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        raise UsageError(f"{path} has no alpha channel, so its outline is unknown; leave it out.")
    stamp = _cut(picture.convert("RGBA"))
    stamp.thumbnail((STAMP_SIDE_PX, STAMP_SIDE_PX), Image.Resampling.LANCZOS)
    return stamp


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise UsageError(f"{path} is no picture that can be read: {error}.") from error
    return picture


def _cut(stamp: Image.Image) -> Image.Image:
    box = stamp.getchannel("A").point([255 * (value >= OPAQUE) for value in range(256)]).getbbox()
    return stamp if box is None else stamp.crop(box)


def _area(stamp: Image.Image) -> int:
    return int((np.asarray(stamp.getchannel("A")) >= OPAQUE).sum())


def _inside(
    stamp: Image.Image, left: int, top: int, canvas: tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], slice, slice]:
    """The stamp's pixels within a canvas of height and width, and where they lie there."""
    height, width = canvas
    rows = slice(max(0, top), min(height, top + stamp.height))
    columns = slice(max(0, left), min(width, left + stamp.width))
    mask = np.asarray(stamp.getchannel("A")) >= OPAQUE
    return (
        mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left],
        rows,
        columns,
    )


def _box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _turned_hues(picture: Image.Image, most: float, random: np.random.Generator) -> Image.Image:
    by = round(256 * most * random.uniform(-1, 1)) if most else 0
    if not by:
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point([(level + by) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _toned(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(random.uniform(0.7, 1.3))
    return picture
