"""Mean average precision on COCO-format annotations, by pycocotools."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.box_contract import Thresholds
from edgekit.detection.annotated_picture import read_annotated
from edgekit.detection.coco_annotations import Annotations, read_annotations
from edgekit.detection.coco_figures import FIGURES, coco_figures, require_pycocotools
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector
from edgekit.errors import UsageError
from edgekit.report import aligned, json_number

LEAST_SCORE = 0.001
"""A curve of precision over recall needs boxes far below those that a user is shown."""
MOST_BOXES = 100


@dataclass(frozen=True)
class Evaluation:
    """COCO's figures from 0 to 1; NaN where no object counts towards one."""

    ap: float
    """Over IoU thresholds from 0.50 to 0.95: what "mAP" means."""
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    recall: float
    """Average recall with 100 boxes a picture."""
    by_class: Mapping[str, float]
    """`ap` of each class."""
    images: int
    objects: int
    """Annotated, without crowds."""
    boxes: int
    """Found."""
    seconds_per_image: float
    """From a decoded picture to boxes."""
    notes: tuple[str, ...] = ()
    """What was left out, in sentences."""

    def to_json(self) -> dict[str, object]:
        numbers = {
            field: json_number(value) if isinstance(value, float) else value
            for field, value in asdict(self).items()
        }
        by_class = {name: json_number(value) for name, value in self.by_class.items()}
        return {**numbers, "by_class": by_class, "notes": list(self.notes)}

    def table(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("mAP 50-95", "AP50", "AP75", "small", "medium", "large", "recall"),
            tuple(_cell(getattr(self, field)) for field in (*FIGURES, "recall")),
        ]
        by_class = [("class", "AP 50-95"), *((n, _cell(v)) for n, v in self.by_class.items())]
        counted = (
            f"{self.images} pictures, {self.objects} objects, {self.boxes} boxes found; "
            f"{self.seconds_per_image * 1000:.1f} ms a picture"
        )
        return "\n".join([aligned(rows), "", aligned(by_class), "", counted, *self.notes])


Progress = Callable[[str], None]


def evaluate_detector(
    detector: Detector, annotations: Path, folder: Path, *, score: float | None, iou: float | None,
    progress: Progress = lambda _: None,
) -> Evaluation:  # fmt: skip
    """On the pictures in `folder`. Classes are those whose name both the model and the file have.

    Raises:
        MissingEnvironmentError: pycocotools is not installed.
        UsageError: annotations or pictures cannot be used, or no class is shared.
    """
    require_pycocotools()
    truth = read_annotations(annotations, folder)
    shared, notes = shared_classes(detector.boxes.names, truth, detector.name)
    least = LEAST_SCORE if score is None else score
    if detector.within is not None and score is None:
        least = detector.within.score
        notes.append(
            f"the file drops scores up to {least:g} by itself, which lowers these figures; export it without --nms"
        )
    thresholds = detector.thresholds_for(least, iou, MOST_BOXES)
    found, seconds = found_in(truth, detector, thresholds, progress)
    results = as_coco(truth, found, shared)
    figures, by_class = coco_figures(as_dataset(truth), results, by_id(shared))
    ap, ap50, ap75, ap_small, ap_medium, ap_large, recall = figures
    return Evaluation(
        ap, ap50, ap75, ap_small, ap_medium, ap_large, recall,
        by_class=by_class,
        images=len(truth.images),
        objects=sum(box.category in by_id(shared) and not box.is_crowd for box in truth.boxes),
        boxes=len(results),
        seconds_per_image=seconds / len(truth.images),
        notes=(*truth.notes, *notes),
    )  # fmt: skip


def found_in(
    truth: Annotations, detector: Detector, thresholds: Thresholds, progress: Progress
) -> tuple[list[Detections], float]:
    """Of each annotated picture, and the seconds from decoded pictures to boxes. Raises UsageError."""
    found: list[Detections] = []
    seconds = 0.0
    for number, image in enumerate(truth.images, start=1):
        progress(f"{number} of {len(truth.images)}")
        picture = read_annotated(image)
        started = time.perf_counter()
        found.append(detector(picture, thresholds))
        seconds += time.perf_counter() - started
    return found, seconds


def by_id(shared: Mapping[int, tuple[int, str]]) -> dict[int, str]:
    """Category id to name."""
    return dict(shared.values())


def shared_classes(
    names: Sequence[str], truth: Annotations, model: str
) -> tuple[dict[int, tuple[int, str]], list[str]]:
    """Column to category id and name; and sentences on classes that only one side has."""
    ids = {_plain(name): (key, name) for key, name in truth.categories.items()}
    shared = {
        column: ids[_plain(name)]
        for column, name in enumerate(names)
        if name and _plain(name) in ids
    }
    if not shared:
        raise UsageError(
            f"{model} and the annotations share no class: it has {_some(names)}, they have "
            f"{_some(list(truth.categories.values()))}."
        )
    annotated = {box.category for box in truth.boxes}
    known = by_id(shared)
    unknown = [
        name for key, name in truth.categories.items() if key in annotated and key not in known
    ]
    notes = []
    if unknown:
        notes.append(
            f"not measured, because {model} has no such class: {_some(unknown)} ({len(unknown)} in all)"
        )
    return shared, notes


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _some(names: Sequence[str]) -> str:
    used = [name for name in names if name]
    return ", ".join(used[:5]) + (", ..." if len(used) > 5 else "") if used else "none"


def as_coco(
    truth: Annotations, found: Sequence[Detections], shared: Mapping[int, tuple[int, str]]
) -> list[dict[str, Any]]:
    """Boxes of shared classes as COCO's JSON has them."""
    return [
        result
        for image, one in zip(truth.images, found, strict=True)
        for result in _of_image(one, image.id, shared)
    ]


def _of_image(
    found: Detections, image: int, shared: Mapping[int, tuple[int, str]]
) -> list[dict[str, Any]]:
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    return [
        {
            "image_id": image,
            "category_id": shared[int(label)][0],
            "bbox": [*map(float, box[:2]), *map(float, size)],
            "score": float(score),
        }
        for box, size, score, label in zip(
            found.boxes, sizes, found.scores, found.labels, strict=True
        )
        if int(label) in shared
    ]


def as_dataset(truth: Annotations) -> dict[str, Any]:
    """As COCO's JSON has it."""
    return {
        "images": [{"id": image.id} for image in truth.images],
        "categories": [{"id": key, "name": name} for key, name in truth.categories.items()],
        "annotations": [
            {
                "id": number,
                "image_id": box.image,
                "category_id": box.category,
                "bbox": list(box.box),
                "area": box.area,
                "iscrowd": int(box.is_crowd),
            }
            for number, box in enumerate(
                truth.boxes, start=1
            )  # its code takes an id of 0 for no match
        ],
    }


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
