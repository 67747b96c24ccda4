"""Per-channel statistics of a teacher's latent, read from the teacher's own checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from edgekit.checkpoint import read_checkpoint
from edgekit.errors import UsageError
from edgekit.video_latent import LatentScaling

MEANS = ("latents_mean", "per_channel_statistics.mean-of-means")
STANDARD_DEVIATIONS = ("latents_std", "per_channel_statistics.std-of-means")


def read_statistics(path: Path) -> LatentScaling:
    """Raises UsageError if the file cannot be read or holds no statistics that scale anything."""
    tensors = dict(_named_tensors(read_checkpoint(path)))

    def values(endings: tuple[str, ...]) -> tuple[float, ...]:
        for key, tensor in tensors.items():
            if key.endswith(endings):
                return tuple(tensor.double().flatten().tolist())
        raise UsageError(
            f"{path.name} holds no {' or '.join(endings)}; give the teacher's VAE file."
        )

    mean, std = values(MEANS), values(STANDARD_DEVIATIONS)
    if not all(map(math.isfinite, (*mean, *std))) or min(std, default=0) <= 0:
        raise UsageError(
            f"The latent statistics in {path.name} are no means and deviations: they must be finite, "
            "and deviations above zero; give the teacher's VAE file."
        )
    if set(mean) == {0.0} and set(std) == {1.0}:
        raise UsageError(
            f"The latent statistics in {path.name} are all 0 and 1, the placeholders of a student's "
            "file; give the teacher's VAE file."
        )
    return LatentScaling(mean=mean, std=std)


def _named_tensors(level: Mapping[str, object]) -> Iterator[tuple[str, Tensor]]:
    for key, value in level.items():
        if isinstance(value, Mapping):
            yield from _named_tensors(value)
        elif isinstance(value, Tensor):
            yield str(key), value
