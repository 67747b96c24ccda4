"""How a head's latent becomes whole numbers, and what a tail gets of it.

`forward` gives the latter from the former's latent, so that a split network computes in one graph what its
two parts compute apart; `sent` gives what the head hands to the coder. In training both 8-bit quantisers
leave the latent as it is (BottleFit quantises after training only).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError

LARGEST = 255


class Quantiser(nn.Module):
    """Of latents N C h w."""

    kind: ClassVar[str]
    """"entropy", "calibrated" or "dynamic": which codec of `edgekit.split` belongs to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def sent(self, latent: Tensor) -> Tensor:
        """What the head gives: int32 symbols, uint8 codes, or values that are quantised outside."""
        raise NotImplementedError

    def likelihoods(self, values: Tensor) -> Tensor | None:
        """Of each value of what `forward` gave, where the quantiser models them."""
        return None


class DynamicQuantiser(Quantiser):
    """8 bits between the least and the greatest value of an image and zero (facts: `Range.of`)."""

    kind = "dynamic"

    def sent(self, latent: Tensor) -> Tensor:
        return latent

    def forward(self, latent: Tensor) -> Tensor:
        if self.training:
            return latent
        low = latent.amin((1, 2, 3), keepdim=True).clamp_max(0)
        high = latent.amax((1, 2, 3), keepdim=True).clamp_min(0)
        span = high - low
        scale = torch.where(span > 0, span / LARGEST, torch.ones_like(span))
        zero_point = (-low / scale).clamp(0, LARGEST).floor()
        codes = (zero_point + latent / scale).clamp(0, LARGEST).round()
        return scale * (codes - zero_point)


class CalibratedQuantiser(Quantiser):
    """8 bits with a fixed scale and zero point for each channel."""

    kind = "calibrated"
    scales: Tensor
    """C; 0 until they are known."""
    zero_points: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("scales", torch.zeros(channels))
        self.register_buffer("zero_points", torch.zeros(channels))

    @property
    def is_calibrated(self) -> bool:
        return bool((self.scales > 0).all())

    def sent(self, latent: Tensor) -> Tensor:
        return self._codes(latent).to(torch.uint8)

    def forward(self, latent: Tensor) -> Tensor:
        if self.training:
            return latent
        return self.scales[:, None, None] * (self._codes(latent) - self.zero_points[:, None, None])

    def _codes(self, latent: Tensor) -> Tensor:
        places = self.zero_points[:, None, None] + latent / self.scales[:, None, None]
        return places.clamp(0, LARGEST).round()


def require_calibrated(quantiser: CalibratedQuantiser) -> None:
    if not quantiser.is_calibrated:
        raise UsageError(
            "The head has no scales for its 8-bit codes yet; calibrate it on sample pictures, or take the "
            "dynamic quantiser."
        )
