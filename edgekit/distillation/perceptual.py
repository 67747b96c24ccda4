"""Perceptual losses: distances between what a frozen network sees in two pictures or videos.

LPIPS needs weights that are somewhere else. `FeatureDistance` takes any network that is at hand: the
teacher's own encoder, TAEF2's, or a model of the zoo with weights of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from edgekit.distillation.losses import require_equal_shapes
from edgekit.distillation.lpips import Lpips
from edgekit.distillation.taps import Batch, Outputs, Tap, Tapped
from edgekit.errors import UsageError
from edgekit.zoo.layers import fold_frames

Compare = Callable[[Batch, Outputs], tuple[Tensor, Tensor]]
"""What the student made of a batch, and what it should be."""


class FeatureDistance(nn.Module):
    """Squared distance of feature vectors of length 1, as in LPIPS but without its learned weights.

    Mean over places, then over the points. 0 for equal pictures, 4 at most.
    """

    def __init__(
        self,
        network: nn.Module,
        points: Sequence[str],
        prepare: Callable[[Tensor], Tensor] = lambda pictures: pictures,
    ) -> None:
        """Freezes the network. Raises UsageError for a point that is no path of a module in it.

        Args:
            prepare: brings pictures to what the network takes, such as its range.
        """
        super().__init__()
        if not points:
            raise UsageError("A feature distance needs at least one point of the network.")
        self.network = network.eval().requires_grad_(False)
        self._prepare = prepare
        self._points = list(points)
        self._tap = Tap(network, Tapped(network, {point: point for point in points}).taps)

    def forward(self, pictures: Tensor, reference: Tensor) -> Tensor:
        with torch.no_grad():
            expected = self._features(reference)
        found = self._features(pictures)
        distances = [
            (_unit(found[point]) - _unit(expected[point])).square().sum(1).mean()
            for point in self._points
        ]
        return torch.stack(distances).mean()

    def _features(self, pictures: Tensor) -> dict[str, Tensor]:
        self._tap.take()  # what others ran of the network
        self.network(self._prepare(pictures))
        seen = self._tap.take()
        return {
            name: value[0] if isinstance(value, tuple) else value for name, value in seen.items()
        }


class Perceptual(nn.Module):
    """A loss term for videos N 3 T H W in [-1, 1]: of whole clips, or of frames as a batch."""

    def __init__(self, distance: nn.Module, compare: Compare, *, by_frame: bool) -> None:
        super().__init__()
        self.distance = distance
        self._compare = compare
        self._by_frame = by_frame or isinstance(distance, Lpips)

    def forward(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        made, real = self._compare(batch, student)
        require_equal_shapes(made, real, "the output")
        if self._by_frame:
            made, real = fold_frames(made), fold_frames(real)
        return self.distance(made, real).mean()


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()
