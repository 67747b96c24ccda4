"""How much worse the output gets as a group narrows: measured, or taken from the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.graph import tensors_of
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.options import Loss
from edgekit.compress.pruning.soundness import unread

SHARES = (0.75, 0.5, 0.25)
"""Of a group's atoms, at which a scan measures; between them it interpolates."""


@dataclass(frozen=True)
class Damage:
    """Of one group, by the number of its atoms that stay: 0 at its full width, and never less for fewer."""

    widths: tuple[int, ...]
    """From none to all."""
    values: tuple[float, ...]

    def __call__(self, width: int) -> float:
        return float(np.interp(width, self.widths, self.values))


def lowest_first(scores: Tensor) -> list[int]:
    """Atoms in the order in which they go."""
    return [int(atom) for atom in torch.argsort(scores, stable=True)]


def damage_of_scores(scores: Mapping[str, Tensor]) -> dict[str, Damage]:
    """The sum of the scores of what goes."""
    found = {}
    for name, values in scores.items():
        gone = torch.cat([torch.zeros(1, dtype=values.dtype), values.sort().values.cumsum(0)])
        found[name] = Damage(tuple(range(len(gone))), tuple(gone.flip(0).tolist()))
    return found


def scanned(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, Tensor],
    data: Sequence[Batch],
    loss: Loss | None,
    progress: Callable[[str], None],
) -> dict[str, Damage]:
    """The error with each group narrowed alone: its lowest channels are read as zeros."""
    error = Error(network, data, loss)
    found = {}
    for number, group in enumerate(groups, start=1):
        progress(f"sensitivity of {group.name} ({number} of {len(groups)})")
        order = lowest_first(scores[group.name])
        points = {group.atoms: 0.0}
        for share in (*SHARES, 0.0):
            width = round(share * group.atoms)
            gone = order[: group.atoms - width]
            with unread(network, [group], {group.name: gone}):
                points[width] = max(error(network), max(points.values()))
        widths = sorted(points)
        found[group.name] = Damage(tuple(widths), tuple(points[width] for width in widths))
    return found


class Error:
    """By how much the loss grows; without one, the squared difference of outputs from those at the beginning, in
    units of their variance, as a mean over output tensors."""

    def __init__(self, network: nn.Module, data: Sequence[Batch], loss: Loss | None) -> None:
        self._data, self._loss = data, loss
        with torch.no_grad():
            self._before = [self._measured(network, batch) for batch in data]

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        errors = []
        for before, batch in zip(self._before, self._data):
            now = self._measured(network, batch)
            differences = [
                (a - b).square().mean() / (b.var().clamp_min(1e-12) if b.numel() > 1 else 1.0)
                for a, b in zip(now, before)
            ]
            signed = (
                float(now[0] - before[0]) if self._loss else float(torch.stack(differences).mean())
            )
            errors.append(signed)
        return sum(errors) / len(errors)

    def _measured(self, network: nn.Module, batch: Batch) -> list[Tensor]:
        if self._loss is not None:
            return [self._loss(network(batch[0]), batch).detach()]
        return tensors_of(network(*batch))
