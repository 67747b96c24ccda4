"""By how much results differ, in two ways: as numbers, and as what they say to whoever reads them.

One metric alone lets its own kind of layers swamp the others (MixDQ, arXiv 2405.17873): a classifier's logits
may all move together and mean the same, and a picture may keep its signal-to-noise ratio and lose its edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.image_contract import ImageContract, Logits
from edgekit.model import Model

Meaning = Callable[[Tensor, Tensor], float]
WINDOW = 7
"""Sides, in pixels, of the squares whose structure is compared."""


@dataclass(frozen=True)
class OutputError:
    noise: float
    """Mean square difference by the square of the output's peak, so that PSNR = -10 log10(noise)."""
    meaning: float
    """0: says the same. Which distance it is, `Judge` says."""

    def __add__(self, other: OutputError) -> OutputError:
        return OutputError(self.noise + other.noise, self.meaning + other.meaning)

    @property
    def psnr_db(self) -> float:
        return -10 * math.log10(self.noise) if self.noise > 0 else math.inf


NOTHING = OutputError(0.0, 0.0)


@dataclass(frozen=True)
class Judge:
    """What a model's outputs are compared by."""

    meaning: Meaning
    word: str
    spans: tuple[float | None, ...]
    """Of the outputs, where their contract declares them."""

    @classmethod
    def of(cls, model: Model) -> Judge:
        contract = model.recipe.contract if model.recipe else None
        spans = tuple(spec.span for spec in model.outputs)
        if isinstance(contract, ImageContract) and isinstance(contract.output, Logits):
            return cls(divergence, "divergence of classes", spans)
        if model.outputs and all(_is_picture(spec.shape) for spec in model.outputs):
            return cls(lost_structure, "lost structure", spans)
        return cls(angle, "1 - cosine", spans)

    def __call__(
        self, wanted: Sequence[Sequence[Tensor]], found: Sequence[Sequence[Tensor]]
    ) -> OutputError:
        """Means over inputs of the worst output's; each input has a list of outputs."""
        noise = meaning = 0.0
        for expected, got in zip(wanted, found, strict=True):
            spans = self.spans or (None,) * len(expected)
            pairs = list(zip(expected, got, spans, strict=True))
            noise += max(_noise(*pair) for pair in pairs)
            meaning += max(self.meaning(a, b) for a, b, _ in pairs)
        return OutputError(noise / len(wanted), meaning / len(wanted))


def divergence(wanted: Tensor, found: Tensor) -> float:
    """Kullback and Leibler's, of class probabilities, in nats."""
    expected = wanted.double().log_softmax(-1)
    return float((expected.exp() * (expected - found.double().log_softmax(-1))).sum(-1).mean())


def lost_structure(wanted: Tensor, found: Tensor) -> float:
    """1 - SSIM (Wang et al. 2004) over flat windows, of pictures in the last two dimensions."""
    a, b = (x.float().reshape(-1, 1, *x.shape[-2:]) for x in (wanted, found))
    span = float(a.max() - a.min()) or 1.0
    low, high = (0.01 * span) ** 2, (0.03 * span) ** 2

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1)

    ma, mb = mean(a), mean(b)
    variance = mean(a * a) - ma * ma + mean(b * b) - mb * mb
    common = mean(a * b) - ma * mb
    similarity = (2 * ma * mb + low) * (2 * common + high)
    return 1 - float((similarity / ((ma * ma + mb * mb + low) * (variance + high))).mean())


def angle(wanted: Tensor, found: Tensor) -> float:
    return 1 - float(F.cosine_similarity(wanted.double().flatten(), found.double().flatten(), 0))


def _noise(wanted: Tensor, found: Tensor, span: float | None) -> float:
    peak = span or float(wanted.abs().max()) or 1.0
    return float((found.double() - wanted.double()).square().mean()) / peak**2


def _is_picture(shape: Sequence[int]) -> bool:
    return len(shape) >= 4 and min(shape[-2:]) >= WINDOW


def outputs_of(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)
