"""Random changes of how a clip looks, so that one film stands for more cameras than its own.

An animated film has smooth, clean, saturated pictures. A decoder that saw nothing else fails on
noise, night and fine texture. The teacher's encoder gives exact latents of any changed picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Appearance:
    """How often each change is made and how far it goes."""

    mirrored: float = 0.5
    channels_permuted: float = 0.3
    inverted: float = 0.15
    toned: float = 0.6
    """Share of clips with another gamma, 1/2 to 2, and another contrast, 0.5 to 1.5."""
    sharpened: float = 0.3
    noisy: float = 0.3
    noise_max: float = 0.06
    """Largest standard deviation of Gaussian noise, of 1."""


def vary(pictures: Pictures, appearance: Appearance, rng: np.random.Generator) -> Pictures:
    """The same random change on all frames, T 3 H W; only noise differs from frame to frame."""
    x: npt.NDArray[np.float32] = pictures.astype(np.float32) / np.float32(255)
    if rng.random() < appearance.mirrored:
        x = x[..., ::-1]
    if rng.random() < appearance.channels_permuted:
        x = x[:, rng.permutation(3)]
    if rng.random() < appearance.inverted:
        x = 1 - x
    if rng.random() < appearance.toned:
        x = x ** np.float32(2.0 ** rng.uniform(-1, 1))
        middle = x.mean()
        x = middle + (x - middle) * np.float32(rng.uniform(0.5, 1.5))
    if rng.random() < appearance.sharpened:
        x = x + np.float32(rng.uniform(0, 1)) * (x - _box_blur(x))
    if rng.random() < appearance.noisy:
        x = x + rng.normal(0, rng.uniform(0, appearance.noise_max), x.shape).astype(np.float32)
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def _box_blur(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean of 3x3 pixels, edges repeated."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    blurred: npt.NDArray[np.float32] = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9
    return blurred
