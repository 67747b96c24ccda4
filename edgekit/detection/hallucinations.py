"""How much a detector sees where nothing is that it knows: counts, FPR95, and what a filter costs.

Definitions are those of arXiv 2503.07330: a hallucination is any box that is shown of a picture without a
known thing; FPR95 is the share of them that a filter accepts at the threshold that keeps 95 % of the right
boxes of the pictures of known things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.detection.detections import Detections
from edgekit.detection.evidence import Evidence, joined
from edgekit.detection.safety import ACCEPTANCE, Safety, accepted, threshold_of


@dataclass(frozen=True)
class Screening:
    """A filter at work; as a function, a `Detector.screen`."""

    safety: Safety
    name: str

    def __call__(self, found: Detections) -> Detections:
        """What it accepts. Raises UsageError."""
        return found.at(np.flatnonzero(accepted(found, self.safety, self.name)))

    def ranked(self, found: Detections) -> Detections:
        """All boxes, those that it rejects with scores below the working threshold, in their order."""
        passes = accepted(found, self.safety, self.name)
        scores = np.where(passes, found.scores, found.scores * np.float32(self.safety.score))
        order = np.argsort(-scores, kind="stable")
        return replace(found, scores=scores.astype(np.float32)).at(order)


def hallucinations(pictures: Sequence[Detections], score: float) -> int:
    """Boxes with a score above `score`, of pictures without a known thing."""
    return sum(int(np.count_nonzero(found.scores > np.float32(score))) for found in pictures)


def false_positive_rate(
    safety: Safety, name: str, known: Evidence, unknown: Evidence, acceptance: float = ACCEPTANCE
) -> float:
    """Of boxes that were found rightly, and of hallucinations; NaN without either."""
    if not len(known) or not len(unknown):
        return float("nan")
    made = safety.named(name).filter
    threshold = threshold_of(made.confidence(known), acceptance)
    return float(np.mean(made.confidence(unknown) >= threshold))


def evidence_of(pictures: Sequence[Detections], score: float) -> Evidence:
    """Of all boxes with a score above `score`."""
    shown = [found.above(score) for found in pictures]
    told = [found.evidence for found in shown if found.evidence is not None]
    none = Evidence(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
    kept = [evidence for evidence in told if len(evidence)]
    return joined(kept) if kept else none
