"""What a detector finds rightly in annotated pictures: what filters of hallucinations are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.detection.coco_annotations import Annotations, read_annotations
from edgekit.detection.coco_evaluation import MOST_BOXES, Progress, found_in, shared_classes
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector
from edgekit.detection.matching import matched
from edgekit.detection.safety import ACCEPTANCE, Safety, fit_safety


def calibrated(
    detector: Detector, annotations: Path, folder: Path, *, score: float | None = None,
    acceptance: float = ACCEPTANCE, progress: Progress = lambda _: None,
) -> Safety:  # fmt: skip
    """Filters of a detector that tells its evidence, made of the pictures in `folder`.

    `score` is the least one that counts, by default the recipe's. Raises UsageError.
    """
    truth = read_annotations(annotations, folder)
    shared, _ = shared_classes(detector.boxes.names, truth, detector.name)
    thresholds = detector.thresholds_for(score, None, MOST_BOXES)
    found, _ = found_in(truth, detector, thresholds, progress)
    return fit_safety(known_boxes(truth, found, shared), thresholds.score, acceptance)


def known_boxes(
    truth: Annotations, found: Sequence[Detections], shared: Mapping[int, tuple[int, str]]
) -> list[Detections]:
    """Of each picture the boxes that cover an object of their class with an IoU of 0.5 and more."""
    column = {key: label for label, (key, _) in shared.items()}
    marked: dict[int, list[tuple[float, ...]]] = {image.id: [] for image in truth.images}
    for box in truth.boxes:
        if box.category in column and not box.is_crowd:
            x, y, width, height = box.box
            marked[box.image].append((x, y, x + width, y + height, column[box.category]))
    return [
        one.at(matched(_detections(marked[image.id]), one).found)
        for image, one in zip(truth.images, found, strict=True)
    ]


def _detections(rows: Sequence[tuple[float, ...]]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], np.ones(len(table), np.float32), table[:, 4].astype(np.int64))
