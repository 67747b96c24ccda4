"""What a quantisation is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgekit.compress.ranges import RangeChoice
from edgekit.compress.weight_codes import WeightRange
from edgekit.errors import UsageError

Repair = Literal["nothing", "statistics", "feedback", "adaquant"]
WEIGHT_BITS = range(2, 9)
ACTIVATION_BITS = (8, None)


@dataclass(frozen=True)
class QuantiseOptions:
    weight_bits: int = 8
    """2 to 8, symmetric, with a scale for each output channel. Sums of 7-bit products cannot overflow 16 bits."""
    activation_bits: int | None = 8
    """None: weights alone are stored in codes, and everything is computed in floats."""
    signed: bool = False
    """Of activations. onnxruntime 1.32 turns signed ones into unsigned ones on x86, one reader at a time:
    values that several operators read stay as they were, and a third of EfficientNet-Lite0's layers in floats."""
    activation_range: RangeChoice = "error"
    percentile: float = 99.99
    """Of the range `percentile`."""
    weight_range: WeightRange = "error"
    least_share: float = 0.001
    """Layers with a smaller share of all multiply-accumulates stay in floats: they cost nothing, and
    decoding of boxes is among them."""
    least_channels: int = 4
    """Layers that read fewer, as of a picture, stay in floats: integer kernels take longer there."""
    float_layers: tuple[str, ...] = ()
    """More layers that stay in floats, by name."""
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    """Of single layers' weights, by name, in place of `weight_bits`."""
    weights_alone: tuple[str, ...] = ()
    """Layers, by name, that are computed in floats with weights in codes."""

    repair: Repair = "statistics"
    """What makes good for the rounding: nothing; mean and spread of each channel; feedback of each weight's
    rounding to the next ones; or AdaQuant, which fits the weights of each layer anew and takes minutes."""
    repair_inputs: int = 16
    """Of the data, held at once for the repair and for making a LayerNorm's channels alike."""
    steps: int = 200
    """Of AdaQuant, for each layer."""
    rank: int = 0
    """Of a branch in floats beside each layer with weights in codes alone, in place of a repair."""

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, *self.layer_bits.values()):
            if bits not in WEIGHT_BITS or self.activation_bits not in ACTIVATION_BITS:
                raise UsageError(
                    f"Weights of {bits} and activations of {self.activation_bits} bits cannot be had: "
                    "weights have 2 to 8, activations 8 or none of their own."
                )
        if not 50 < self.percentile <= 100:
            raise UsageError(f"A percentile of {self.percentile:g} is none; give 50 to 100.")
        if self.rank and self.activation_bits is not None:
            raise UsageError(
                "A branch of low rank belongs to weights in codes alone; leave activations in floats."
            )
        if self.rank and self.repair in ("feedback", "adaquant"):
            raise UsageError(
                f"A branch of low rank stands in place of a repair; leave {self.repair} away."
            )
        if min(self.repair_inputs, self.steps) < 1 or self.rank < 0:
            raise UsageError("Inputs and steps of a repair are at least 1, a rank at least 0.")
        if not 0 <= self.least_share < 1:
            raise UsageError(f"A share of {self.least_share:g} is none; give 0 to 1.")

    def bits_of(self, layer: str) -> int:
        return self.layer_bits.get(layer, self.weight_bits)


PLAIN = QuantiseOptions()
