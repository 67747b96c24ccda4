"""Mean and spread of each channel as they were in floats: what re-estimating BatchNorm behind a quantised
convolution does, for layers with and without one.

    mean, deviation of the layer's results in codes  ->  those in floats

With a scale for each output channel both are exact without new codes: the scale takes the factor, and the bias
the rest. As in "Improving Post Training Neural Quantization" (arXiv 2006.10518), where a norm with the original
parameters is put back behind each layer, its statistics taken anew, and folded again.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgekit.compress.decided import LayerCodes
from edgekit.compress.layer_results import computed
from edgekit.compress.places import Layer

MOST_FACTOR = 1.25
"""A channel that needs more, or its inverse, has lost its values: a factor would only amplify noise."""


def restored(
    layer: Layer, codes: LayerCodes, given: list[Tensor], wanted: list[Tensor]
) -> LayerCodes:
    """The layer's codes with other scales and another bias."""
    with torch.no_grad():
        found = [computed(layer, x, codes.weight.values(), codes.bias) for x in given]
    mean, deviation = _statistics(found, layer.channels_axis)
    wished_mean, wished_deviation = _statistics(wanted, layer.channels_axis)
    factor = wished_deviation / deviation.clamp_min(1e-12)
    usable = (factor < MOST_FACTOR) & (factor > 1 / MOST_FACTOR)
    factor = torch.where(usable, factor, torch.ones_like(factor))
    bias = torch.zeros_like(mean) if codes.bias is None else codes.bias
    weight = replace(codes.weight, scales=codes.weight.scales * factor)
    return replace(codes, weight=weight, bias=(bias - mean) * factor + wished_mean)


def _statistics(results: list[Tensor], axis: int) -> tuple[Tensor, Tensor]:
    rows = torch.cat([value.movedim(axis, 0).flatten(1) for value in results], 1).double()
    return rows.mean(1).float(), rows.std(1, correction=0).float()
