"""Optimisers as data: their settings, and how they are built for named parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from edgekit.distillation.muon import Muon, mixes_channels

Parameters = Mapping[str, nn.Parameter]


class Optimiser(Protocol):
    """Settings that make torch optimisers; a stage's schedule multiplies the rate of each group."""

    def build(self, parameters: Parameters) -> list[torch.optim.Optimizer]: ...


@dataclass(frozen=True)
class AdamW:
    """torch.optim.AdamW. The defaults are those of Turbo-VAED (arXiv 2508.09136 and its code)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    eps: float = 1e-15
    decays_vectors: bool = True
    """False: biases and norms, which have one axis, do not decay."""

    def build(self, parameters: Parameters) -> list[torch.optim.Optimizer]:
        groups = _groups(parameters, self.weight_decay, self.decays_vectors)
        return [torch.optim.AdamW(groups, self.learning_rate, self.betas, self.eps)]


@dataclass(frozen=True)
class Sgd:
    """torch.optim.SGD."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    decays_vectors: bool = True
    """False: biases and norms, which have one axis, do not decay."""

    def build(self, parameters: Parameters) -> list[torch.optim.Optimizer]:
        groups = _groups(parameters, self.weight_decay, self.decays_vectors)
        rate, momentum = self.learning_rate, self.momentum
        return [torch.optim.SGD(groups, rate, momentum, nesterov=self.nesterov)]


@dataclass(frozen=True)
class MuonAndAdamW:
    """Muon for the weights that mix channels, AdamW for the rest, at the same learning rate."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)

    def build(self, parameters: Parameters) -> list[torch.optim.Optimizer]:
        dense = [p for p in parameters.values() if mixes_channels(p)]
        rest = [p for p in parameters.values() if not mixes_channels(p)]
        built: list[torch.optim.Optimizer] = []
        if dense:
            built.append(Muon(dense, self.learning_rate))
        if rest:
            rate, betas = self.learning_rate, self.betas
            built.append(torch.optim.AdamW(rest, rate, betas, weight_decay=0.0))
        return built


def _groups(parameters: Parameters, decay: float, decays_vectors: bool) -> list[dict[str, object]]:
    if decays_vectors or not decay:
        return [{"params": list(parameters.values()), "weight_decay": decay}]
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    groups = ({"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0})
    return [dict(group) for group in groups if group["params"]]
