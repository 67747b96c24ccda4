"""Confidence from logits alone: energy (arXiv 2010.03759) and max-logit (arXiv 1911.11132).

Detectors score each class by a sigmoid of its own, so that the energy is the sum of the classes' own
ones, log(1 + e^logit) (JointEnergy; Wang et al., NeurIPS 2021), and not the logarithm of a sum over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.detection.evidence import Evidence, Floats


@dataclass(frozen=True)
class Energy:
    """Joint energy over the classes, negated: the higher, the more likely a known thing."""

    def confidence(self, evidence: Evidence) -> Floats:
        """N"""
        energies: Floats = np.logaddexp(np.float32(0), evidence.logits).sum(1)
        return energies


@dataclass(frozen=True)
class MaxLogit:
    def confidence(self, evidence: Evidence) -> Floats:
        """N"""
        highest: Floats = evidence.logits.max(1)
        return highest
