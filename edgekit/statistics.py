"""Per-channel statistics of a teacher's latent, read from the teacher's own checkpoint."""

from __future__ import annotations

from pathlib import Path

from edgekit.checkpoint import read_checkpoint
from edgekit.errors import UsageError
from edgekit.video_latent import LatentScaling

MEANS = ("latents_mean", "per_channel_statistics.mean-of-means")
STANDARD_DEVIATIONS = ("latents_std", "per_channel_statistics.std-of-means")


def read_statistics(path: Path) -> LatentScaling:
    """Raises UsageError if the file cannot be read or holds no statistics."""
    checkpoint = read_checkpoint(path)
    tensors = checkpoint if isinstance(checkpoint, dict) else {}

    def values(endings: tuple[str, ...]) -> tuple[float, ...]:
        for key, tensor in tensors.items():
            if str(key).endswith(endings):
                return tuple(float(value) for value in tensor.flatten())
        raise UsageError(
            f"{path.name} holds no {' or '.join(endings)}; give the teacher's VAE file."
        )

    return LatentScaling(mean=values(MEANS), std=values(STANDARD_DEVIATIONS))
