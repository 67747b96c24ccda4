"""Filters of hallucinations: boxes that a detector shows where nothing is that it knows.

Each filter gives a box a confidence that it is of a known thing, and rejects those below a threshold
that lets pass 95 % of what was found rightly in pictures of known things. Definitions are those of
arXiv 2503.07330.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgekit.detection.detections import Detections
from edgekit.detection.evidence import Evidence, Floats, joined
from edgekit.detection.filter_logits import Energy, MaxLogit
from edgekit.detection.filter_mahalanobis import fit_mahalanobis
from edgekit.detection.filter_neighbours import fit_neighbours
from edgekit.errors import UsageError

ACCEPTANCE = 0.95
NEAREST = 5
"""k of KNN, as in SPK (arXiv 2608.19080)."""
LEAST_BOXES = 20
"""In either half of the pictures: 5 % of fewer are no whole box."""
RUNS = 10
FILTERS = ("energy", "max-logit", "mahalanobis", "knn")

Labels = npt.NDArray[np.int64]


class Filter(Protocol):
    def confidence(self, evidence: Evidence) -> Floats: ...


@dataclass(frozen=True)
class Calibrated:
    filter: Filter
    threshold: float
    """Least confidence of what is accepted."""

    def accepts(self, evidence: Evidence) -> npt.NDArray[np.bool_]:
        accepted: npt.NDArray[np.bool_] = self.filter.confidence(evidence) >= self.threshold
        return accepted


@dataclass(frozen=True)
class Safety:
    """The filters of one detector."""

    filters: Mapping[str, Calibrated]
    classes: int
    """Of the logits."""
    features: int
    acceptance: float
    """Share of right boxes that each filter lets pass, in the pictures that it was calibrated with."""
    score: float
    """Least score of the boxes that were looked at."""
    pictures: int
    boxes: int
    """Found rightly in these pictures."""

    def accepts(self, name: str, evidence: Evidence) -> npt.NDArray[np.bool_]:
        """Raises UsageError for another filter, or for evidence of another network."""
        calibrated = self.named(name)
        classes, features = evidence.logits.shape[1], evidence.features.shape[1]
        if (classes, features) != (self.classes, self.features):
            raise UsageError(
                f"The filters are those of a detector with {self.classes} classes and {self.features} features, "
                f"and this one has {classes} and {features}; calibrate them for it."
            )
        return calibrated.accepts(evidence)

    def named(self, name: str) -> Calibrated:
        if name not in self.filters:
            raise UsageError(f"There is no filter '{name}'; there are {', '.join(self.filters)}.")
        return self.filters[name]


def accepted(found: Detections, safety: Safety, name: str) -> npt.NDArray[np.bool_]:
    """Which boxes a filter lets pass. Raises UsageError."""
    if found.evidence is None:
        raise UsageError(
            "The detector tells no logits and features, which filters judge by; export it with --safety."
        )
    return safety.accepts(name, found.evidence)


def fit_safety(known: Sequence[Detections], score: float, acceptance: float = ACCEPTANCE) -> Safety:
    """Of the boxes with evidence that a detector found rightly, picture by picture.

    One half of the pictures gives the tables, and the other the thresholds: a filter is surer of the boxes
    that it was made of than of others, see `gives_tables`.

    Raises UsageError for too few boxes, and an acceptance that is none.
    """
    if not 0 < acceptance < 1:
        raise UsageError(f"An acceptance of {acceptance:g} is none: give a share such as 0.95.")
    is_of_tables = gives_tables(len(known))
    tables, thresholds = (
        _boxes([one for one, mine in zip(known, is_of_tables, strict=True) if mine == half])
        for half in (True, False)
    )
    (labels, made_of), (_, tried_on) = tables, thresholds
    if min(len(made_of), len(tried_on)) < LEAST_BOXES:
        raise UsageError(
            f"The detector finds {len(made_of) + len(tried_on)} of the marked objects with a score above "
            f"{score:g}, in {len(known)} pictures, and filters need {2 * LEAST_BOXES}; give more pictures, or a "
            "lower score."
        )
    filters: dict[str, Filter] = {
        "energy": Energy(),
        "max-logit": MaxLogit(),
        "mahalanobis": fit_mahalanobis(made_of.features, labels),
        "knn": fit_neighbours(made_of.features, NEAREST),
    }
    calibrated = {
        name: Calibrated(made, threshold_of(made.confidence(tried_on), acceptance))
        for name, made in filters.items()
    }
    return Safety(
        calibrated, made_of.logits.shape[1], made_of.features.shape[1], acceptance, score,
        pictures=len(known), boxes=len(made_of) + len(tried_on),
    )  # fmt: skip


def gives_tables(pictures: int) -> list[bool]:
    """Which pictures, in their order, give the tables: every other one of ten runs of neighbours.

    Neighbours in a film are near copies: if they were dealt out singly, filters would be tried on what they were
    made of. Ten runs, so that both halves have of what a set shows at its beginning and at its end.
    """
    runs = min(RUNS, pictures)
    return [number * runs // pictures % 2 == 0 for number in range(pictures)]


def threshold_of(confidence: Floats, acceptance: float) -> float:
    """The highest one that lets pass at least this share."""
    ordered = np.sort(confidence)
    rejected = int(np.floor((1 - acceptance) * len(ordered) + 1e-9))
    return float(ordered[rejected])


def _boxes(pictures: Sequence[Detections]) -> tuple[Labels, Evidence]:
    told = [(found.labels, found.evidence) for found in pictures if found.evidence is not None]
    none = Evidence(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    kept = [(labels, evidence) for labels, evidence in told if len(labels)]
    if not kept:
        return np.zeros(0, np.int64), none
    return np.concatenate([labels for labels, _ in kept]), joined([e for _, e in kept])
