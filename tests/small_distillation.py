"""A distillation of two tiny networks that takes a second, and what tests do with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from edgekit.distillation import (
    AdamW,
    Cosine,
    Linear,
    Loss,
    Match,
    MuonAndAdamW,
    Sgd,
    SoftLabels,
    Stage,
    Tapped,
)
from edgekit.distillation.loop import Distilled, distill


class Pictures(Dataset[Any]):
    """Seeded noise with random brightness from torch's global generator, and a label."""

    def __init__(self, items: int = 24, on_item: Callable[[int], None] | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pictures = torch.rand(items, 3, 8, 8, generator=generator)
        self.on_item = on_item

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.on_item is not None:
            self.on_item(index)
        return self.pictures[index] * (0.5 + torch.rand(())), index % 4


def teacher() -> Tapped:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    return Tapped(network, {"features": "1"})


def student(*, dropout: float = 0.2, norm: bool = True) -> Tapped:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4, 4),
    )
    return Tapped(network, {"features": "2"}, {"features": nn.Conv2d(4, 8, 1)})


def cross_entropy(batch: Any, student: Any, teacher: Any) -> Tensor:
    return F.cross_entropy(student.output, batch[1])


def stages(**changes: Any) -> list[Stage]:
    """Two stages with all that a checkpoint must hold: three optimisers, schedules, averages."""
    features = Stage(
        "features", [Loss("features", Match("features"))], 6, ("0", "1", "projection"),
        optimiser=MuonAndAdamW(1e-2), rate=Cosine(2), batch_size=4, clip_norm=1.0, ema=0.8,
    )  # fmt: skip
    losses = [Loss("soft", SoftLabels(2.0)), Loss("hard", cross_entropy, 0.5, Linear())]
    labels = Stage(
        "labels", losses, 5, frozen=("1",), optimiser=Sgd(0.05), batch_size=6, accumulate=1, ema=0.8,
    )  # fmt: skip
    return [replace(stage, **changes) for stage in (features, labels)]


def even_stages(**changes: Any) -> list[Stage]:
    """Two stages whose step does not depend on how a batch is split."""
    losses = [Loss("soft", SoftLabels(2.0)), Loss("hard", cross_entropy, 0.5)]
    optimiser = AdamW(1e-2, eps=1e-8)
    first = Stage(
        "first", [Loss("features", Match("features"))], 4, ("0", "projection"), optimiser=optimiser,
        batch_size=8, clip_norm=0.5, ema=0.8,
    )  # fmt: skip
    second = Stage("second", losses, 4, ("0", "6"), optimiser=optimiser, batch_size=8, ema=0.8)
    return [replace(stage, **changes) for stage in (first, second)]


def small_run(run: Path, **options: Any) -> Distilled:
    """The two stages with checkpoints every 4 and log lines every 2 steps, unless told otherwise."""
    given: dict[str, Any] = {
        "student": student(), "teacher": teacher(), "data": Pictures(), "stages": stages(),
        "run": run, "save_every": 4, "log_every": 2,
    }  # fmt: skip
    return distill(**{**given, **options})


def weights(distilled: Distilled) -> dict[str, Tensor]:
    return dict(distilled.model.module.state_dict())


def all_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
