"""Found boxes: corners, scores and class numbers, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.detection.evidence import Evidence

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """Of one picture, by descending score."""

    boxes: Floats
    """N 4: x1 y1 x2 y2 in pixels."""
    scores: Floats
    labels: Labels
    """Columns of the network's scores."""
    evidence: Evidence | None = None
    """What a filter judges the boxes by; None where the network was not asked for it."""

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Detections:
        return self.at(np.flatnonzero(self.scores > score))

    def at(self, rows: npt.NDArray[np.intp]) -> Detections:
        evidence = None if self.evidence is None else self.evidence.at(rows)
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], evidence)

    def to_json(self, names: Sequence[str], digits: int = 2) -> list[dict[str, object]]:
        return [
            {
                "class": name_of(names, int(label)),
                "label": int(label),
                "score": round(float(score), 4),
                "box": [round(float(side), digits) for side in box],
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]


def rows_in_use(outputs: Mapping[str, npt.NDArray[np.generic]]) -> Detections:
    """Of a file that suppresses by itself: unused rows have the label -1."""
    labels = np.asarray(outputs["labels"][0]).astype(np.int64)
    boxes, scores = (np.asarray(outputs[name][0], np.float32) for name in ("boxes", "scores"))
    return Detections(boxes, scores, labels).at(np.flatnonzero(labels >= 0))


def name_of(names: Sequence[str], label: int) -> str:
    known = names[label] if 0 <= label < len(names) else ""
    return known or f"class {label}"
