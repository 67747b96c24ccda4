"""Numbers as whole codes in a Program: value = (code - zero) * scale, in operators that every backend writes.

They are those of torch's own quantisers, so that torch.onnx writes QuantizeLinear and DequantizeLinear, and
coremltools `quantize`, `dequantize` and weights that stay compressed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.program.editing import GraphEditor

importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers the operators

QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
DEQUANTIZE_CHANNELS = torch.ops.quantized_decomposed.dequantize_per_channel.default
TINY = 1e-12
"""A range narrower than this has nothing in it but zero."""


@dataclass(frozen=True)
class Affine:
    """How one tensor of activations becomes codes."""

    scale: float
    """A number that single precision has, since files store it so."""
    zero: int
    bits: int = 8
    signed: bool = True

    @property
    def low(self) -> int:
        return -int(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return self.low + int(2**self.bits) - 1

    @property
    def dtype(self) -> torch.dtype:
        return torch.int8 if self.signed else torch.uint8

    @classmethod
    def of_range(cls, low: float, high: float, bits: int = 8, *, signed: bool = True) -> Affine:
        """That reaches from `low` to `high` and, widened where it must be, over 0, which is a code.

        Padding, and what a rectifier cuts, is then exact.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        width = high - low if high - low > TINY else 1.0
        scale = float(torch.tensor(width / (2**bits - 1), dtype=torch.float32))
        first = -(2 ** (bits - 1)) if signed else 0
        zero = max(first, min(first + 2**bits - 1, round(first - low / scale)))
        return cls(scale, zero, bits, signed)

    def rounded(self, x: Tensor) -> Tensor:
        """`x` as its codes say it, as floats."""
        codes = torch.round(x * (1.0 / self.scale)) + self.zero
        return (codes.clamp(self.low, self.high) - self.zero) * self.scale


@dataclass(frozen=True)
class WeightCodes:
    """A weight in signed codes of up to eight bits around 0, with a scale for each of its channels."""

    codes: Tensor
    """int8, in the weight's shape."""
    scales: Tensor
    """float32, one for each channel along `axis`."""
    axis: int
    bits: int

    @property
    def most(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def values(self) -> Tensor:
        return self.codes * along(self.scales, self.codes, self.axis)


def along(scales: Tensor, weight: Tensor, axis: int) -> Tensor:
    """In a shape that broadcasts over the weight."""
    return scales.reshape([-1 if dim == axis else 1 for dim in range(weight.ndim)])


def through_codes(edit: GraphEditor, value: Node, affine: Affine) -> Node:
    """Emit both ways; returns the value as its codes say it."""
    bounds = (affine.low, affine.high, affine.dtype)
    codes = edit.call(QUANTIZE, value, affine.scale, affine.zero, *bounds)
    return edit.call(DEQUANTIZE, codes, affine.scale, affine.zero, *bounds)


def stored_codes(edit: GraphEditor, weight: WeightCodes) -> Node:
    """Emit a weight that is stored in codes."""
    zeros = torch.zeros(len(weight.scales), dtype=torch.int64)
    return edit.call(
        DEQUANTIZE_CHANNELS, edit.constant(weight.codes), edit.constant(weight.scales),
        edit.constant(zeros), weight.axis, -weight.most, weight.most, torch.int8,
    )  # fmt: skip


def stored_sums(edit: GraphEditor, bias: Tensor, scales: Tensor) -> Node:
    """Emit a bias in the codes that integer kernels add products in: 32 bits."""
    limits = torch.iinfo(torch.int32)
    codes = torch.round(bias.double() / scales.double()).clamp(limits.min, limits.max)
    return edit.call(
        DEQUANTIZE_CHANNELS, edit.constant(codes.to(torch.int32)), edit.constant(scales), None,
        0, limits.min, limits.max, torch.int32,
    )  # fmt: skip
