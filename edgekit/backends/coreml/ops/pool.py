"""Pooling in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.padding import Pads, pad_spatial, spatial_pads
from edgekit.backends.coreml.ops.registry import exact_op, op

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Windows:
    """Where the windows of a pool lie."""

    declared: Pads
    overhang: Pads
    """What ceil mode adds after the declared padding so that the last window fits."""
    sizes: list[int]

    def crop(self, y: Tensor) -> Tensor:
        for axis, size in enumerate(self.sizes, start=2):
            y = y.narrow(axis, 0, size)
        return y


def windows(
    sizes: Sequence[int],
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: list[int] | None,
    ceil_mode: bool,
) -> Windows:
    pads = spatial_pads(pad_type, pad, sizes, kernel_sizes, strides)
    overhang: Pads = []
    outputs: list[int] = []
    for size, kernel, stride, (before, after) in zip(
        sizes, kernel_sizes, strides, pads, strict=True
    ):
        padded = size + before + after
        count = (padded - kernel + (stride - 1 if ceil_mode else 0)) // stride + 1
        if ceil_mode and (before or after) and (count - 1) * stride >= size + before:
            count -= 1  # the last window would lie in the padding altogether
        outputs.append(count)
        overhang.append((0, max(0, (count - 1) * stride + kernel - padded)))
    return Windows(pads, overhang, outputs)


@exact_op
def max_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    strides = strides or [1] * len(kernel_sizes)
    where = windows(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    x = pad_spatial(x, where.declared, -torch.inf)
    x = pad_spatial(x, where.overhang, -torch.inf)
    return where.crop(MAX_POOL[len(kernel_sizes)](x, kernel_sizes, strides))


@op
def avg_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """The overhang of ceil mode never counts, declared padding unless excluded; as in torch."""
    strides = strides or [1] * len(kernel_sizes)
    where = windows(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    pool = AVG_POOL[len(kernel_sizes)]
    counted = torch.ones(1, 1, *x.shape[2:])
    counted = pad_spatial(counted, where.declared, 0.0 if exclude_padding_from_average else 1.0)
    counted = pad_spatial(counted, where.overhang)
    x = pad_spatial(pad_spatial(x, where.declared), where.overhang)
    y = pool(x, kernel_sizes, strides)
    if not bool(counted.all()):
        y = y / pool(counted, kernel_sizes, strides)
    return where.crop(y)


@op
def l2_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    strides = strides or [1] * len(kernel_sizes)
    where = windows(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    x = pad_spatial(pad_spatial(x.square(), where.declared), where.overhang)
    area = float(torch.tensor(kernel_sizes).prod())
    return where.crop((AVG_POOL[len(kernel_sizes)](x, kernel_sizes, strides) * area).sqrt())
