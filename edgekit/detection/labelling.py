"""Label distillation: boxes of a teacher on real pictures, as annotations that a student trains on.

    street/annotations.json   in COCO's format, each box with the teacher's `score`
    street/pictures/          what the boxes lie on

With a held-out share both lie in `train` and in `held-out`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.bundle import new_folder
from edgekit.data_folder import suggestion
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector
from edgekit.distillation.whole_frames import Frame, WholeFrames
from edgekit.errors import UsageError
from edgekit.report import aligned

TRAIN, HELD_OUT = "train", "held-out"
ANNOTATIONS, PICTURES = "annotations.json", "pictures"
JPEG_QUALITY = 95
SURE_SCORE = 0.5
"""A box that a student is to learn should be one; for showing boxes less is enough."""


@dataclass(frozen=True)
class LabelOptions:
    score: float = SURE_SCORE
    """Boxes of a lower score are not written."""
    iou: float | None = None
    """Of the suppression; None: the teacher's."""
    classes: tuple[str, ...] = ()
    """These only, in this order, which is that of the student's recipe; none: all of the teacher's."""
    every: int = 1
    """Frames of a video from one that is taken to the next."""
    held_out: float = 0.0
    """Share of each video, at its end, and of the pictures that goes into a folder of its own."""


@dataclass(frozen=True)
class Labelled:
    annotations: tuple[Path, ...]
    pictures: tuple[int, ...]
    """In each of them."""
    boxes: tuple[Mapping[str, int], ...]
    """By class, in each of them."""

    def to_json(self) -> list[dict[str, object]]:
        return [
            {"annotations": str(path), "pictures": pictures, "boxes": dict(boxes)}
            for path, pictures, boxes in self._parts()
        ]

    def table(self) -> str:
        rows: list[tuple[str, ...]] = [("annotations", "pictures", "boxes")]
        for path, pictures, boxes in self._parts():
            counts = ", ".join(f"{count} {name}" for name, count in boxes.items()) or "none"
            rows.append((str(path), str(pictures), counts))
        return aligned(rows)

    def _parts(self) -> zip[tuple[Path, int, Mapping[str, int]]]:
        return zip(self.annotations, self.pictures, self.boxes, strict=True)


def label(
    teacher: Detector,
    data: Path,
    output: Path,
    options: LabelOptions = LabelOptions(),
    progress: Callable[[str], None] = lambda _: None,
) -> Labelled:
    """Write what the teacher finds on pictures and frames, or nothing at all.

    Raises:
        MissingEnvironmentError: the folder cannot be written, or videos need PyAV.
        UsageError: `output` exists, data or options cannot be used, or nothing was found.
    """
    if output.exists():
        raise UsageError(f"{output} exists; choose another place with -o, or remove it.")
    thresholds = teacher.thresholds_for(options.score, options.iou)
    names = _asked_names(options.classes, teacher)
    frames = WholeFrames(data, options.every, options.held_out)
    with new_folder(output, force=False) as partial:
        parts = {
            held_out: _Part(partial / _place(options, held_out=held_out), names)
            for held_out in ((False, True) if options.held_out else (False,))
        }
        for number, frame in enumerate(frames, start=1):
            progress(f"{number} of {len(frames)}")
            found = teacher(frame.picture, thresholds)
            parts[frame.is_held_out].add(frame, found, teacher.boxes.names)
        for held_out, part in parts.items():
            _require_pictures(part, HELD_OUT if held_out else TRAIN)
        _require_boxes(parts[False], teacher.name, thresholds.score)
        for part in parts.values():
            part.write(f"boxes of {teacher.name} with scores above {thresholds.score:g}")
    return Labelled(
        tuple(output / part.folder.relative_to(partial) / ANNOTATIONS for part in parts.values()),
        tuple(len(part.images) for part in parts.values()),
        tuple(part.by_class() for part in parts.values()),
    )


def _asked_names(asked: Sequence[str], teacher: Detector) -> tuple[str, ...]:
    known = teacher.boxes.used_names
    for name in asked:
        if name not in known:
            raise UsageError(
                f"{teacher.name} has no class '{name}'; {suggestion(name, list(known))}"
            )
        if asked.count(name) > 1:
            raise UsageError(f"The class '{name}' is given twice.")
    return tuple(asked) or known


def _place(options: LabelOptions, *, held_out: bool) -> str:
    if not options.held_out:
        return "."
    return HELD_OUT if held_out else TRAIN


def _require_pictures(part: _Part, name: str) -> None:
    if not part.images:
        raise UsageError(
            f"There is no frame for '{name}': give another share to hold out (--held-out), or take more "
            "frames of each video (--every)."
        )


def _require_boxes(part: _Part, teacher: str, score: float) -> None:
    if not part.annotations:
        raise UsageError(
            f"{teacher} finds no box of the classes asked for with a score above {score:g} in "
            f"{len(part.images)} pictures, so there is nothing to train on; give a lower --score or other data."
        )


@dataclass
class _Part:
    """Annotations that grow, and their pictures on disk."""

    folder: Path
    names: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, frame: Frame, found: Detections, names: Sequence[str]) -> None:
        """Without the boxes of classes that were not asked for; a picture without a box is kept."""
        number = len(self.images) + 1
        file = self.folder / PICTURES / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        frame.picture.save(file, quality=JPEG_QUALITY)
        self.images.append(
            {
                "id": number, "file_name": file.name,
                "width": frame.picture.width, "height": frame.picture.height,
                "source": frame.source, "frame": frame.number,
            }
        )  # fmt: skip
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, column in rows:
            if names[column] in self.names:
                width, height = x2 - x1, y2 - y1
                box = {
                    "id": len(self.annotations) + 1, "image_id": number,
                    "category_id": self.names.index(names[column]) + 1,
                    "bbox": [round(side, 2) for side in (x1, y1, width, height)],
                    "area": round(width * height, 2), "iscrowd": 0, "score": round(score, 4),
                }  # fmt: skip
                self.annotations.append(box)

    def by_class(self) -> dict[str, int]:
        """Most first; classes without a box are left out."""
        counts = Counter(self.names[box["category_id"] - 1] for box in self.annotations)
        return dict(counts.most_common())

    def write(self, description: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        categories = [{"id": place, "name": name} for place, name in enumerate(self.names, start=1)]
        told = {
            "info": {"description": description},
            "images": self.images,
            "categories": categories,
            "annotations": self.annotations,
        }
        (self.folder / ANNOTATIONS).write_text(json.dumps(told), encoding="utf-8")
