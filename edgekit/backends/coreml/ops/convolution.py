"""Convolution and transposed convolution in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.activation import per_channel
from edgekit.backends.coreml.ops.padding import Pads, pad_spatial, spatial_pads
from edgekit.backends.coreml.ops.registry import op

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def dilated(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]


@op
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: list[int] | None = None,
    pad_type: str = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """x: N C *; weight: C_out C/groups *."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = spatial_pads(pad_type, pad, x.shape[2:], dilated(weight.shape[2:], dilations), strides)
    symmetric = [0] * rank
    if all(before == after >= 0 for before, after in pads):
        symmetric = [before for before, _ in pads]  # spares a padded copy of x
    else:
        x = pad_spatial(x, pads)
    return CONV[rank](x, weight, bias, strides, symmetric, dilations, groups)


@op
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: list[int] | None = None,
    output_shape: list[int] | None = None,
    pad_type: str = "valid",
    strides: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """x: N C *; weight: C C_out/groups *. `pad` crops the full result, which ends with zeros.

    "same" gives size·stride outputs, or `output_shape`, cropping the smaller half before.
    """
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    extents = dilated(weight.shape[2:], dilations)
    full = [
        (size - 1) * stride + extent
        for size, stride, extent in zip(x.shape[2:], strides, extents, strict=True)
    ]
    wanted = output_shape[2:] if output_shape else None
    if pad_type == "same":
        sizes = wanted or [n * stride for n, stride in zip(x.shape[2:], strides, strict=True)]
        begins = [max(0, length - size) // 2 for length, size in zip(full, sizes, strict=True)]
    else:
        pads = spatial_pads(pad_type, pad, x.shape[2:], extents, strides)
        begins = [before for before, _ in pads]
        sizes = wanted or [n - b - a for n, (b, a) in zip(full, pads, strict=True)]
    ends = [n - begin - size for n, begin, size in zip(full, begins, sizes, strict=True)]
    transpose = CONV_TRANSPOSE[rank]
    if begins == ends:
        return transpose(x, weight, bias, strides, begins, 0, groups, dilations)
    y = transpose(x, weight, None, strides, 0, 0, groups, dilations)
    crops: Pads = [(-begin, -end) for begin, end in zip(begins, ends, strict=True)]
    y = pad_spatial(y, crops)
    return y if bias is None else y + per_channel(bias, y)
