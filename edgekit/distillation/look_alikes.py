"""Pictures of things that look like a detector's classes and are none, mixed into its training.

On them everything is background. A detector that was fine-tuned so hallucinates less (arXiv 2503.07330).
Each picture is exchanged by chance: a batch has its share of them on average, and hardly ever nothing else,
where a loss that is divided by the number of objects would be out of scale.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgekit.distillation.pictures import CocoDetection
from edgekit.errors import UsageError


class WithLookAlikes(Dataset[dict[str, Tensor]]):
    """Items of `known`, or with the chance `share` a look-alike without boxes in the place of one."""

    def __init__(self, known: CocoDetection, look_alikes: Dataset[Tensor], share: float) -> None:
        """Raises UsageError for a share that is none."""
        if not 0 < share < 1:
            raise UsageError(
                f"A share of look-alikes of {share:g} is none: give a number above 0 and below 1."
            )
        self.known, self.look_alikes, self.share = known, look_alikes, share
        self._count: int = len(look_alikes)  # type: ignore[arg-type]
        made_by = getattr(look_alikes, "made_by", self._count)
        self.made_by = {"share": share, "known": known.made_by, "look_alikes": made_by}

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """By torch's generator, which the loop seeds."""
        if float(torch.rand(())) >= self.share:
            return self.known[index]
        picture = self.look_alikes[int(torch.randint(self._count, ()))]
        most = self.known.most_boxes
        return {
            "picture": picture, "boxes": torch.zeros(most, 4), "labels": torch.full((most,), -1),
        }  # fmt: skip


class WithoutBoxes(Dataset[Tensor]):
    """Pictures of annotations that mark nothing."""

    def __init__(self, annotated: CocoDetection, source: Path) -> None:
        """Raises UsageError for annotations that do mark something: it would be unlearnt."""
        if annotated.most_boxes:
            raise UsageError(
                f"Look-alikes have no boxes, and {source} marks some; leave out the pictures that show "
                "what the detector shall find."
            )
        self._annotated = annotated
        self.skipped = annotated.skipped
        self.made_by = annotated.made_by

    def __len__(self) -> int:
        return len(self._annotated)

    def __getitem__(self, index: int) -> Tensor:
        return self._annotated[index]["picture"]
