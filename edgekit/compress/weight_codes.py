"""Weights in codes: symmetric, a scale for each output channel."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edgekit.program.affine import TINY, WeightCodes, along

WeightRange = Literal["largest", "error"]
SHARES = torch.linspace(0.4, 1.0, 49).tolist()
"""Of a channel's largest weight, that the search for the least error tries."""


def weight_codes(weight: Tensor, axis: int, bits: int, choice: WeightRange) -> WeightCodes:
    """Codes within ±(2^(bits-1) - 1). `error` searches each channel's range for the least square error."""
    most = 2 ** (bits - 1) - 1
    channels = weight.detach().float().movedim(axis, 0).flatten(1)
    largest = channels.abs().amax(1).clamp_min(TINY)
    scales = largest / most
    if choice == "error":
        errors = torch.stack([_errors(channels, share * scales, most) for share in SHARES])
        scales = torch.tensor(SHARES)[errors.argmin(0)] * scales
    return coded(weight, scales, axis, bits)


def coded(weight: Tensor, scales: Tensor, axis: int, bits: int) -> WeightCodes:
    most = 2 ** (bits - 1) - 1
    codes = torch.round(weight.detach() / along(scales, weight, axis)).clamp(-most, most)
    return WeightCodes(codes.to(torch.int8), scales.float(), axis, bits)


def _errors(channels: Tensor, scales: Tensor, most: int) -> Tensor:
    column = scales[:, None]
    rounded = torch.round(channels / column).clamp(-most, most) * column
    return (rounded - channels).square().sum(1)
