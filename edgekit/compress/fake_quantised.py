"""Numbers rounded to what few bits can say, kept as floats: for training towards integer hardware.

Rules and orders of operations are those of CoDeNet's quantiser, so that codes are equal bit by bit:
weights symmetric per output channel, activations asymmetric per tensor. Gradients pass unchanged.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import UsageError
from edgekit.zoo.square_deform import SquareDepthwise, square_depthwise

FEW_WEIGHTS = 10
"""Channels with fewer have no percentiles; 0.95 of their range is taken instead."""
RANGE_MOMENTUM = 0.99
TINY = 1e-12
FLAT = 1e-5
"""A narrower range of activations counts as this wide: a constant input stays finite."""


@dataclass(frozen=True)
class WeightBits:
    bits: int
    percentile: bool = False
    """The range ends at the 0.1 and 99.9 percentiles of each channel instead of at its extremes."""


@dataclass(frozen=True)
class Codes:
    """Whole numbers as floats; value = codes / scale."""

    codes: Tensor
    scale: Tensor
    """Per output channel, with ones for the other dimensions."""
    low: Tensor
    high: Tensor

    @property
    def values(self) -> Tensor:
        return self.codes / self.scale


def weight_codes(weight: Tensor, chosen: WeightBits) -> Codes:
    """Codes within -2^(bits-1) and 2^(bits-1) - 1 of weights out ...; a channel of zeros gets zeros."""
    rows = weight.flatten(1)
    low, high = _channel_ranges(rows, percentile=chosen.percentile)
    largest = torch.maximum(low.abs(), high.abs()).clamp_min(TINY)
    top = 2 ** (chosen.bits - 1)
    scale = ((1 / largest) * (top - 1)).reshape(-1, *[1] * (weight.ndim - 1))
    return Codes(torch.round(scale * weight).clamp(-top, top - 1), scale, low, high)


def _channel_ranges(rows: Tensor, *, percentile: bool) -> tuple[Tensor, Tensor]:
    count = rows.shape[1]
    if not percentile:
        return rows.amin(dim=1), rows.amax(dim=1)
    if count < FEW_WEIGHTS:
        return rows.amin(dim=1) * 0.95, rows.amax(dim=1) * 0.95
    return (
        rows.kthvalue(max(1, ceil(0.001 * count)), dim=1).values,
        rows.kthvalue(ceil(0.999 * count), dim=1).values,
    )


def quantised_weight(weight: Tensor, chosen: WeightBits) -> Tensor:
    return straight_through(weight, weight_codes(weight.detach(), chosen).values)


def straight_through(x: Tensor, y: Tensor) -> Tensor:
    """The value of y with the gradient of x."""
    return y.detach() + (x - x.detach()) if torch.is_grad_enabled() and x.requires_grad else y


class QuantisedConv(nn.Module):
    """A convolution with quantised weights. A norm behind it is folded in with its running
    statistics, which stay as they are; bias and output are not quantised."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, chosen: WeightBits) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.chosen = chosen

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight before quantisation, and bias."""
        if self.norm is None:
            return self.conv.weight, self.conv.bias
        mean, variance = self.norm.get_buffer("running_mean"), self.norm.get_buffer("running_var")
        factor = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        bias = self.norm.bias - mean * factor
        if self.conv.bias is not None:
            bias = bias + self.conv.bias * factor
        return self.conv.weight * factor.reshape(-1, 1, 1, 1), bias

    @torch.no_grad()
    def settled(self) -> nn.Conv2d:
        """An ordinary convolution with the quantised weight."""
        weight, bias = self.folded()
        conv = copy.deepcopy(self.conv)
        conv.weight = nn.Parameter(quantised_weight(weight, self.chosen))
        conv.bias = None if bias is None else nn.Parameter(bias.clone())
        return conv

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.folded()
        conv = self.conv
        weight = quantised_weight(weight, self.chosen)
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # type: ignore[arg-type]


class QuantisedSquareDepthwise(nn.Module):
    """CoDeNet's deformable convolution with quantised weights."""

    def __init__(self, inner: SquareDepthwise, chosen: WeightBits) -> None:
        super().__init__()
        self.inner = inner
        self.chosen = chosen

    @torch.no_grad()
    def settled(self) -> SquareDepthwise:
        """An ordinary one with the quantised weight."""
        layer = copy.deepcopy(self.inner)
        layer.weight = nn.Parameter(quantised_weight(self.inner.weight, self.chosen))
        return layer

    def forward(self, x: Tensor, dilation: Tensor) -> Tensor:
        weight = quantised_weight(self.inner.weight, self.chosen)
        return square_depthwise(x, dilation, weight, whole=self.inner.whole)


class ActivationQuantiser(nn.Module):
    """Eight bits over a running range of values; values beyond the range are not cut.

    While `observing` each call moves the range towards its input's; the first one sets it.
    """

    range: Tensor
    """2: least and greatest value; both 0 before the first call."""

    def __init__(self, bits: int = 8, *, percentile: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.percentile = percentile
        self.observing = True
        self.register_buffer("range", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self._observe(x.detach())
        codes, scale, zero = self.codes(x.detach())
        return straight_through(x, (codes + zero) / scale)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, around 0; scale; and the zero point: value = (codes + zero) / scale."""
        scale, zero = self.scale_and_zero()
        return torch.round(scale * x - zero), scale, zero

    def scale_and_zero(self) -> tuple[Tensor, Tensor]:
        low, high = self.range.unbind()
        scale = (1 / (high - low).clamp_min(FLAT)) * (2**self.bits - 1)
        return scale, torch.round(scale * low) + 2 ** (self.bits - 1)

    def settled(self) -> RoundedActivation:
        """With the range as it is now. Raises UsageError before the first input."""
        if not self.range.any():
            raise UsageError(
                "A quantiser has seen no input yet: let the quantised network look at some pictures first."
            )
        scale, zero = self.scale_and_zero()
        return RoundedActivation(scale.item(), zero.item())

    def _observe(self, x: Tensor) -> None:
        values = x.flatten()
        if self.percentile:
            first, last = (max(1, round(share * len(values))) for share in (0.001, 0.999))
            seen = torch.stack([values.kthvalue(first).values, values.kthvalue(last).values])
        else:
            seen = torch.stack([values.amin(), values.amax()])
        if self.range[0] == self.range[1]:
            self.range.copy_(seen)
        else:
            self.range += (RANGE_MOMENTUM - 1) * self.range + (1 - RANGE_MOMENTUM) * seen


class RoundedActivation(nn.Module):
    """What ActivationQuantiser does with one range, in five operators."""

    def __init__(self, scale: float, zero: float) -> None:
        super().__init__()
        self.scale = scale
        self.zero = zero

    def forward(self, x: Tensor) -> Tensor:
        return (torch.round(x * self.scale - self.zero) + self.zero) / self.scale
