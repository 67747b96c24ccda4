"""Resampling of the last two axes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.backends.coreml.ops.registry import exact_op, op


def grid(size: int, target: int, mode: str) -> Tensor:
    """Source coordinates of `target` samples for one of MIL's sampling modes, in float64."""
    i = torch.arange(target, dtype=torch.float64)
    if mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * size / target - 0.5
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * max(1, size - 1) / target
    elif mode == "DEFAULT":
        points = i * size / target
    elif target > 1:  # the two ALIGN_CORNERS modes
        points = i * (size - 1) / (target - 1)
    else:
        points = i + (0.0 if mode == "STRICT_ALIGN_CORNERS" else (size - 1) / 2)
    return points.clamp(0, size - 1)


def interpolate(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """Linear interpolation of x along `axis` at fractional coordinates within it."""
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (points - low).to(x.dtype).reshape([-1] + [1] * (-axis - 1))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)


def bilinear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    if height != x.shape[-2]:
        x = interpolate(x, -2, grid(x.shape[-2], height, mode))
    if width != x.shape[-1]:
        x = interpolate(x, -1, grid(x.shape[-1], width, mode))
    return x


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """The source of sample i is floor(i·size / target)."""
    for axis, target in ((-2, height), (-1, width)):
        if target != x.shape[axis]:
            x = x.index_select(axis, torch.arange(target) * x.shape[axis] // target)
    return x


def scaled(size: int, factor: float) -> int:
    # In float32, as coremltools infers the shape: 3 * float32(5 / 3) is 5 there, not 4.
    return math.floor(np.float32(factor) * np.float32(size))


@exact_op
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    height = scaled(x.shape[-2], scale_factor_height)
    return nearest(x, height, scaled(x.shape[-1], scale_factor_width))


@exact_op
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    return nearest(x, target_size_height, target_size_width)


@op
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    half_pixel = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    mode = "STRICT_ALIGN_CORNERS" if align_corners else mode
    height = scaled(x.shape[-2], scale_factor_height)
    return bilinear(x, height, scaled(x.shape[-1], scale_factor_width), mode)


@op
def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    return bilinear(x, target_size_height, target_size_width, sampling_mode)


@op
def resize(
    x: Tensor,
    shape: list[int],
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last `resized_dims` sizes of `shape` replace those of x; 0 keeps a size.

    Unlike the iOS 15 operators, nearest rounds the grid point (0.5 upwards) of the sampling mode:
    2 to 3 in DEFAULT mode reads 0, 1, 1, the value that coremltools' own test expects.
    """
    for axis in range(-resized_dims, 0):
        target = shape[axis] or x.shape[axis]
        points = grid(x.shape[axis], target, sampling_mode)
        if interpolation_mode == "LINEAR":
            x = interpolate(x, axis, points)
        else:
            x = x.index_select(axis, (points + 0.5).floor().long().clamp(max=x.shape[axis] - 1))
    return x


@exact_op
def crop(x: Tensor, crop_height: list[int], crop_width: list[int]) -> Tensor:
    return F.pad(x, [-amount for amount in (*crop_width, *crop_height)])


@op
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample N C H W at (x, y) coordinates of shape N H' W' 2."""
    sizes = torch.tensor([x.shape[-1], x.shape[-2]], dtype=torch.float64)
    pixels = coordinates.double()
    if coordinates_mode != "unnormalized":
        unit = pixels if coordinates_mode == "normalized_zero_to_one" else (pixels + 1) / 2
        pixels = unit * (sizes - 1) if align_corners else unit * sizes - 0.5
    # In torch the corner convention also decides the mirror: about the edge pixel's centre
    # (MIL's "reflection") or about the image's edge ("symmetric").
    centres = padding_mode == "reflection"
    points = 2 * pixels / (sizes - 1) - 1 if centres else (2 * pixels + 1) / sizes - 1
    modes = {"constant": "zeros", "border": "border"}
    offset = padding_value if padding_mode == "constant" else 0.0
    y = F.grid_sample(
        x - offset,
        points.to(x.dtype),
        mode=sampling_mode,
        padding_mode=modes.get(padding_mode, "reflection"),
        align_corners=centres,
    )
    return y + offset


@op
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """MIL allows only bilinear, constant 0, coordinates -1 to 1 and aligned corners."""
    theta = transform_matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    size = [x.shape[0], x.shape[1], output_height, output_width]
    points = F.affine_grid(theta, size, align_corners=True)
    return F.grid_sample(x, points, sampling_mode, "zeros", align_corners=True)
