"""Confidence from the distance to the nearest class (Mahalanobis; arXiv 1807.03888)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.detection.evidence import Evidence, Floats
from edgekit.errors import UsageError


@dataclass(frozen=True)
class Mahalanobis:
    """Classes are normal distributions around means of their own, with one covariance."""

    means: Floats
    """K D: of the classes that were seen."""
    precision: Floats
    """D D: the inverse of the covariance."""

    def confidence(self, evidence: Evidence) -> Floats:
        """N: minus the square of the distance to the nearest mean."""
        apart = evidence.features[:, None] - self.means
        squares = np.einsum("nkd,de,nke->nk", apart, self.precision, apart, optimize=True)
        nearest: Floats = -squares.min(1).astype(np.float32)
        return nearest


def fit_mahalanobis(features: Floats, labels: npt.NDArray[np.int64]) -> Mahalanobis:
    """Of N D features of boxes of these classes.

    The covariance is shrunk towards a multiple of the identity by the oracle approximating shrinkage
    (Chen, Wiesel, Eldar and Hero, arXiv 0907.4698), so that fewer boxes than features will do.

    Raises UsageError where all features of a class are the same, which no shrinkage mends.
    """
    values = features.astype(np.float64)
    seen = np.unique(labels)
    means = np.stack([values[labels == label].mean(0) for label in seen])
    apart = values - means[np.searchsorted(seen, labels)]
    covariance = shrunk(apart.T @ apart / len(apart), len(apart))
    if not np.trace(covariance) > 1e-12 * max(1.0, float(np.square(values).mean())):
        raise UsageError(
            "The features of all boxes of a class are the same, so that their covariance has no inverse; give "
            "more pictures, of different things."
        )
    return Mahalanobis(means.astype(np.float32), np.linalg.inv(covariance).astype(np.float32))


def shrunk(covariance: npt.NDArray[np.float64], samples: int) -> npt.NDArray[np.float64]:
    """D D of `samples` rows, drawn towards trace / D times the identity."""
    size = len(covariance)
    trace, of_square = np.trace(covariance), np.square(covariance).sum()
    numerator = (1 - 2 / size) * of_square + trace**2
    denominator = (samples + 1 - 2 / size) * (of_square - trace**2 / size)
    share = min(1.0, numerator / denominator) if denominator > 0 else 1.0
    result: npt.NDArray[np.float64] = (1 - share) * covariance
    result[np.diag_indices(size)] += share * trace / size
    return result
