"""Confidence from the distance to the k-th nearest known box (KNN; arXiv 2204.06507)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.detection.evidence import Evidence, Floats
from edgekit.errors import UsageError

MOST_KNOWN = 2000
"""Rows of the bank; the distances to it are computed for every found box."""


@dataclass(frozen=True)
class Neighbours:
    bank: Floats
    """M D: features of known boxes, each of length 1."""
    k: int

    def confidence(self, evidence: Evidence) -> Floats:
        """N: minus the distance to the k-th nearest, both of length 1."""
        features = of_length_one(evidence.features)
        squares = np.maximum(0, 2 - 2 * features @ self.bank.T)
        kth: Floats = -np.sqrt(np.partition(squares, self.k - 1, axis=1)[:, self.k - 1])
        return kth


def fit_neighbours(features: Floats, k: int, most: int = MOST_KNOWN) -> Neighbours:
    """Of N D features. More than `most` are thinned evenly. Raises UsageError for fewer than k."""
    if len(features) < k:
        raise UsageError(
            f"KNN looks at the {k} nearest known boxes, and there are {len(features)}; give more pictures."
        )
    rows = np.linspace(0, len(features) - 1, min(most, len(features))).round().astype(np.intp)
    return Neighbours(of_length_one(features[rows]), k)


def of_length_one(features: Floats) -> Floats:
    """Rows of zeros stay."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    result: Floats = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result
