"""What a pruned network gives, beside what the whole one does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.importance import Batch
from edgekit.report import json_number


@dataclass(frozen=True)
class Quality:
    psnr_db: tuple[float, ...]
    """Of each output, against the range that the whole network's has."""
    same_class: float | None
    """Share of rows whose highest number stands at the same place, where the output is N classes."""
    inputs: int

    def sentence(self) -> str:
        decibels = ", ".join(f"{value:.1f}" for value in self.psnr_db)
        classes = "" if self.same_class is None else f", {self.same_class:.1%} the same class"
        return f"{decibels} dB{classes}, on {self.inputs} inputs"

    def to_json(self) -> dict[str, Any]:
        psnr = [json_number(value) for value in self.psnr_db]
        return {"psnr_db": psnr, "same_class": self.same_class, "inputs": self.inputs}


@torch.no_grad()
def quality(whole: nn.Module, pruned: nn.Module, data: Sequence[Batch]) -> Quality:
    measured: dict[int, list[tuple[float, float, float]]] = {}
    same = rows = 0
    for batch in data:
        expected, found = (tensors_of(network(*batch)) for network in (whole, pruned))
        for index, (a, b) in enumerate(zip(found, expected)):
            square = float((a - b).double().square().mean())
            measured.setdefault(index, []).append((square, float(b.min()), float(b.max())))
        if len(expected) == 1 and expected[0].ndim == 2:
            same += int((found[0].argmax(1) == expected[0].argmax(1)).sum())
            rows += len(expected[0])
    decibels = []
    for seen in measured.values():
        error = sum(square for square, _, _ in seen) / len(seen)
        span = max(high for *_, high in seen) - min(low for _, low, _ in seen)
        decibels.append(10 * math.log10(span**2 / error) if error and span else math.inf)
    inputs = sum(len(batch[0]) for batch in data)
    return Quality(tuple(decibels), same / rows if rows else None, inputs)
