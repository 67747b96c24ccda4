"""Operators that move values: views, joins, slices and shuffles."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.registry import exact_op


@exact_op
def reshape(x: Tensor, shape: list[int]) -> Tensor:
    """0 keeps the size of x counted from the right, or is 1 beyond its rank; -1 is inferred."""
    offset = x.ndim - len(shape)
    sizes = [
        size if size else (x.shape[i + offset] if i + offset >= 0 else 1)
        for i, size in enumerate(shape)
    ]
    return x.reshape(sizes)


@exact_op
def reshape_like(
    x: Tensor,
    ref_tensors: tuple[Tensor, ...],
    begins: list[int],
    ends: list[int],
    end_masks: list[bool],
) -> Tensor:
    sizes: list[int] = []
    for reference, begin, end, open_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += reference.shape[begin:] if open_end else reference.shape[begin:end]
    return x.reshape(sizes)


@exact_op
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    before = math.prod(x.shape[:axis])
    return x.reshape(before, x.numel() // before)


@exact_op
def expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@exact_op
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@exact_op
def transpose(x: Tensor, perm: list[int]) -> Tensor:
    return x.permute(perm)


@exact_op
def reverse(x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.flip(list(range(x.ndim)) if axes is None else axes)


@exact_op
def reverse_sequence(
    x: Tensor, lengths: list[int], seq_axis: int = 0, batch_axis: int = 0
) -> Tensor:
    parts = []
    for part, length in zip(torch.split(x, 1, batch_axis), lengths, strict=True):
        head = part.narrow(seq_axis, 0, length).flip(seq_axis)
        tail = part.narrow(seq_axis, length, x.shape[seq_axis] - length)
        parts.append(torch.cat([head, tail], seq_axis))
    return torch.cat(parts, batch_axis)


@exact_op
def concat(values: tuple[Tensor, ...], axis: int, interleave: bool = False) -> Tensor:
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@exact_op
def stack(values: tuple[Tensor, ...], axis: int) -> Tensor:
    return torch.stack(values, axis)


@exact_op
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> tuple[Tensor, ...]:
    sizes = split_sizes or [x.shape[axis] // (num_splits or 1)] * (num_splits or 1)
    return tuple(torch.split(x, sizes, axis))


@exact_op
def tile(x: Tensor, reps: list[int]) -> Tensor:
    return x.repeat(reps)


@exact_op
def pad(x: Tensor, pad: list[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """(before, after) for each of the last len(pad) / 2 axes, first axis first."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=constant_val)
    for axis, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        if before or after:
            size = x.shape[axis]
            source = torch.arange(-before, size + after)
            if mode == "reflect":
                source = size - 1 - (size - 1 - source.abs()).abs()
            x = x.index_select(axis, source.clamp(0, size - 1))
    return x


@exact_op
def slice_by_index(
    x: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """NumPy slices; a mask opens the begin or the end, or picks one index and drops the axis."""
    closed = [False] * x.ndim
    squeezed = squeeze_mask or closed
    for axis in range(x.ndim):
        first = None if (begin_mask or closed)[axis] else begin[axis]
        last = None if (end_mask or closed)[axis] else end[axis]
        if squeezed[axis]:
            x = x.narrow(axis, (first or 0) % x.shape[axis], 1)
            continue
        span = range(*slice(first, last, stride[axis] if stride else 1).indices(x.shape[axis]))
        if len(span) == x.shape[axis] and span.step > 0:
            continue
        if span.step > 0:
            x = x[(slice(None),) * axis + (slice(span.start, span.stop, span.step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(span), dtype=torch.long))
    return x.squeeze(tuple(axis for axis in range(x.ndim) if squeezed[axis]))


@exact_op
def slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """A size of -1 reaches to the end."""
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first %= x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


@exact_op
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


@exact_op
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    return F.pixel_shuffle(x, upscale_factor)


@exact_op
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    return F.pixel_unshuffle(x, downscale_factor)


@exact_op
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """The block offset is the slow digit of the channel, as in TensorFlow."""
    n, c, h, w = x.shape
    b = block_size
    blocks = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // b**2, h * b, w * b)


@exact_op
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    n, c, h, w = x.shape
    b = block_size
    blocks = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b**2, h // b, w // b)


@exact_op
def space_to_batch(x: Tensor, block_shape: list[int], paddings: list[list[int]]) -> Tensor:
    """The block offset is the slow digit of the batch."""
    x = F.pad(x, [*paddings[1], *paddings[0]])
    (n, c, h, w), (bh, bw) = x.shape, block_shape
    blocks = x.reshape(n, c, h // bh, bh, w // bw, bw).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * bh * bw, c, h // bh, w // bw)


@exact_op
def batch_to_space(x: Tensor, block_shape: list[int], crops: list[list[int]]) -> Tensor:
    (n, c, h, w), (bh, bw) = x.shape, block_shape
    blocks = x.reshape(bh, bw, n // (bh * bw), c, h, w).permute(2, 3, 4, 0, 5, 1)
    y = blocks.reshape(n // (bh * bw), c, h * bh, w * bw)
    return F.pad(y, [-amount for amount in (*crops[1], *crops[0])])
