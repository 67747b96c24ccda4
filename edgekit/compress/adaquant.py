"""AdaQuant: weights, scales and biases of one layer after the other that come closest to the layer's own results.

    min over W, s, b of  |act(layer(x; W0, b0)) - act(layer(x'; s round(W / s), b))|²

on a few inputs, by gradient descent with the rounding passed straight through ("Improving Post Training Neural
Quantization", arXiv 2006.10518). x' is what the layers before, in codes
already, give. Ranges of activations stay as they were calibrated: several layers read the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgekit.compress.decided import LayerCodes
from edgekit.compress.fake_quantised import straight_through
from edgekit.compress.layer_results import activated, computed
from edgekit.compress.places import Layer
from edgekit.compress.statistics_restored import restored
from edgekit.program.affine import along


@dataclass(frozen=True)
class AdaQuant:
    original: dict[str, Tensor]
    """Weights in floats, by layer's name."""
    steps: int
    batch: int = 4
    weight_rate: float = 0.001
    """In codes: layers' weights differ in size, and one rate for all, as published, moves some not at all."""
    scale_rate: float = 1e-3
    """Of the logarithm."""
    bias_rate: float = 1e-3
    """In deviations of the layer's results."""

    def __call__(
        self, layer: Layer, codes: LayerCodes, given: list[Tensor], wanted: list[Tensor]
    ) -> LayerCodes:
        """The better of the descent's end and its beginning, which has its statistics restored."""
        start = restored(layer, codes, given, wanted)
        goals = [activated(layer, value) for value in wanted]
        weight = self.original[layer.name]
        in_codes = weight / along(codes.weight.scales, weight, codes.weight.axis)
        parts = _Parts(layer, start, in_codes)
        deviation = float(torch.cat([value.flatten() for value in wanted]).std())
        rates = [
            {"params": [parts.weight], "lr": self.weight_rate},
            {"params": [parts.size], "lr": self.scale_rate},
            {"params": [parts.bias], "lr": self.bias_rate * deviation},
        ]
        optimiser = torch.optim.Adam(rates)
        falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, self.steps)
        chosen = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            for _ in range(self.steps):
                picked = torch.randint(len(given), (min(self.batch, len(given)),), generator=chosen)
                optimiser.zero_grad()
                for index in picked.tolist():
                    parts.loss(given[index], goals[index]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                falling.step()
        end = parts.codes(start)
        return min((start, end), key=lambda found: _error(layer, found, given, goals))


class _Parts:
    """What is optimised of a layer: its weight in codes, before they are rounded, their scales, its bias."""

    def __init__(self, layer: Layer, start: LayerCodes, in_codes: Tensor) -> None:
        self.layer, self.start = layer, start.weight
        assert start.bias is not None  # restoring statistics gives one
        self.weight = in_codes.detach().clone().requires_grad_()
        self.size = start.weight.scales.log().clone().requires_grad_()
        self.bias = start.bias.detach().clone().requires_grad_()

    def rounded(self) -> Tensor:
        whole = straight_through(self.weight, self.weight.detach().round())
        most = self.start.most
        return whole.clamp(-most, most) * along(self.size.exp(), self.weight, self.start.axis)

    def loss(self, given: Tensor, goal: Tensor) -> Tensor:
        result = computed(self.layer, given, self.rounded(), self.bias)
        return (activated(self.layer, result) - goal).square().mean()

    def codes(self, start: LayerCodes) -> LayerCodes:
        most = self.start.most
        whole = self.weight.detach().round().clamp(-most, most).to(torch.int8)
        weight = replace(self.start, codes=whole, scales=self.size.detach().exp())
        return replace(start, weight=weight, bias=self.bias.detach())


def _error(layer: Layer, codes: LayerCodes, given: list[Tensor], goals: list[Tensor]) -> float:
    with torch.no_grad():
        weight = codes.weight.values()
        results = (activated(layer, computed(layer, x, weight, codes.bias)) for x in given)
        return sum(
            float((result - goal).square().mean())
            for result, goal in zip(results, goals, strict=True)
        )
