"""Spatial padding of convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

Pads = list[tuple[int, int]]


def spatial_pads(
    pad_type: str,
    pad: Sequence[int] | None,
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
) -> Pads:
    """(before, after) per spatial axis; `extents` are dilated kernel sizes.

    "same" gives ceil(size / stride) outputs and puts an odd element after, "same_lower" before.
    """
    if pad_type == "custom" and pad is not None:
        return list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type in ("same", "same_lower"):
        totals = [
            max(0, (-(-size // stride) - 1) * stride + extent - size)
            for size, extent, stride in zip(sizes, extents, strides, strict=True)
        ]
        pads = [(total // 2, total - total // 2) for total in totals]
        return [(b, a) for a, b in pads] if pad_type == "same_lower" else pads
    return [(0, 0)] * len(sizes)


def pad_spatial(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the last axes; a negative amount crops."""
    if not any(before or after for before, after in pads):
        return x
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=value)
