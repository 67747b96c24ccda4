"""Recall of a student against its teacher on frames that neither was trained on: boxes at IoU 0.5.

    edgekit label ssd-mobilenet-v2 --weights ssd-mobilenet-v2.safetensors --data clips/ -o street \\
        --every 5 --classes person,car --held-out 0.25
    edgekit distill leyolo-street --data street/train --validation street/held-out
    python benchmarks/street_recall.py leyolo-street --weights leyolo-street.run/student.safetensors \\
        --annotations street/held-out/annotations.json

The teacher is no truth: what it misses counts against a student that finds it, as a wrong box. So recall,
the share of the teacher's boxes that the student has, is the figure; precision stands beside it, for a
student that marks everything has all recall.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgekit.api import detector_of
from edgekit.detection.coco_annotations import Annotations, read_annotations
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector
from edgekit.detection.matching import matched
from edgekit.detection.picture_file import read_picture
from edgekit.report import aligned

SCORES = (0.1, 0.2, 0.3, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("student", help="a bundle, or a model's name")
    parser.add_argument("--weights")
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--iou", type=float, default=0.5)
    asked = parser.parse_args()
    student = detector_of(asked.student, asked.weights)
    truth = read_annotations(asked.annotations, asked.annotations.parent / "pictures")
    rows = [("class", "teacher's boxes", *(f"recall, precision above {s:g}" for s in SCORES))]
    rows += counted(student, truth, asked.iou)
    print(f"{student.name}: {len(truth.images)} frames, IoU {asked.iou:g}\n{aligned(rows)}")


def counted(student: Detector, truth: Annotations, iou: float) -> list[tuple[str, ...]]:
    """A row for each class that the teacher found, and one for all."""
    columns = {name: column for column, name in enumerate(student.boxes.names)}
    classes = [name for name in truth.categories.values() if name in columns]
    hits = np.zeros((len(SCORES), len(classes), 3), int)  # matched, the teacher's, the student's
    for image in truth.images:
        found = student(read_picture(image.file), student.thresholds_for(min(SCORES)))
        expected = teacher_boxes(truth, image.id, columns)
        for row, score in enumerate(SCORES):
            seen = found.above(score)
            pairs = matched(expected, seen, iou)
            for place, name in enumerate(classes):
                column = columns[name]
                hits[row, place] += (
                    np.count_nonzero(expected.labels[pairs.expected] == column),
                    np.count_nonzero(expected.labels == column),
                    np.count_nonzero(seen.labels == column),
                )
    rows = [(name, hits[:, place]) for place, name in enumerate(classes)]
    rows.append(("all", hits.sum(1)))
    return [(name, str(own[0, 1]), *map(_cell, own)) for name, own in rows if own[0, 1]]


def teacher_boxes(truth: Annotations, image: int, columns: dict[str, int]) -> Detections:
    """Of one picture, with the student's numbers of classes."""
    boxes = [box for box in truth.boxes if box.image == image]
    known = [box for box in boxes if truth.categories[box.category] in columns]
    corners = np.array([(*box.box[:2], box.box[0] + box.box[2], box.box[1] + box.box[3]) for box in known])  # fmt: skip
    labels = np.array([columns[truth.categories[box.category]] for box in known], np.int64)
    return Detections(
        corners.reshape(-1, 4).astype(np.float32), np.ones(len(known), np.float32), labels
    )


def _cell(own: np.ndarray) -> str:
    hit, teacher, student = (int(count) for count in own)
    return f"{hit / teacher:.3f}, {hit / student:.3f}" if student else "0.000, -"


if __name__ == "__main__":
    main()
