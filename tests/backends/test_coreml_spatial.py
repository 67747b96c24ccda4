"""Convolutions, pools, norms, resampling and suppression against slow references."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Case, ct, mb, run_cases
from torch import Tensor
from torch.nn import functional as F

generator = np.random.default_rng(0)
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIZES = (7, 5, 4)
Pads = Sequence[tuple[int, int]]


def normal(*shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def same_pads(sizes: Sequence[int], kernel: int, stride: int, lower: bool = False) -> Pads:
    """TensorFlow's rule: ceil(size / stride) outputs, the odd element after (or before)."""
    pads = []
    for size in sizes:
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + kernel - size)
        small, large = total // 2, total - total // 2
        pads.append((large, small) if lower else (small, large))
    return pads


def slow_windows(x: np.ndarray, pads: Pads, kernel: int, stride: int, fill: float) -> np.ndarray:
    """All windows, stacked along new last axes; x is N C *."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, (kernel,) * len(axes), axes)
    return view[(slice(None), slice(None), *[slice(None, None, stride)] * len(axes))]


def slow_conv_transpose(
    x: np.ndarray, weight: np.ndarray, stride: int, dilation: int, groups: int
) -> np.ndarray:
    """The full result: every input element stamps its kernel."""
    n, channels, *sizes = x.shape
    per_group, kernel = weight.shape[1], weight.shape[2]
    reach = (kernel - 1) * dilation + 1
    y = np.zeros((n, per_group * groups, *[(s - 1) * stride + reach for s in sizes]), np.float32)
    for c in range(channels):
        first = c // (channels // groups) * per_group
        for place in itertools.product(*map(range, sizes)):
            stamp = x[(slice(None), c, *place)].reshape(n, *[1] * (weight.ndim - 1)) * weight[c]
            spots = tuple(slice(p * stride, p * stride + reach, dilation) for p in place)
            y[(slice(None), slice(first, first + per_group), *spots)] += stamp
    return y


def conv_case(rank: int, pad_type: str, stride: int, dilation: int, groups: int) -> Case:
    x, weight, bias = normal(1, 4, *SIZES[:rank]), normal(8, 4 // groups, *[2] * rank), normal(8)
    custom = [(1, 0), (2, 1), (0, 2)][:rank]
    pads = {
        "valid": [(0, 0)] * rank,
        "custom": custom,
        "same": same_pads(x.shape[2:], dilation + 1, stride),
        "same_lower": same_pads(x.shape[2:], dilation + 1, stride, lower=True),
    }[pad_type]
    padded = torch.from_numpy(np.pad(x, [(0, 0), (0, 0), *pads]))
    expected = CONV[rank](
        padded,
        torch.from_numpy(weight),
        torch.from_numpy(bias),
        stride,
        dilation=dilation,
        groups=groups,
    )
    arguments: dict[str, Any] = {"pad": sum(custom, ())} if pad_type == "custom" else {}

    def build(x: Any) -> Any:
        return mb.conv(
            x=x,
            weight=weight,
            bias=bias,
            strides=[stride] * rank,
            dilations=[dilation] * rank,
            pad_type=pad_type,
            groups=groups,
            **arguments,
        )

    name = f"conv{rank}d {pad_type} stride {stride} dilation {dilation} groups {groups}"
    return Case(name, {"x": x}, build, [expected.numpy()])


def conv_transpose_case(
    rank: int, crop: str, stride: int, kernel: int, dilation: int, groups: int
) -> Case:
    """`crop` is a pad type, or "output_shape" for valid padding with one more output."""
    x = normal(1, 2 * groups, *SIZES[:rank])
    weight, bias = normal(2 * groups, 3, *[kernel] * rank), normal(3 * groups)
    full = slow_conv_transpose(x, weight, stride, dilation, groups)
    arguments: dict[str, Any] = {"pad_type": crop}
    pads: list[tuple[int, int]] = [(0, 0)] * rank
    if crop == "custom":
        pads = [(1, 0), (1, 1), (0, 1)][:rank]
        arguments["pad"] = sum(pads, ())
    elif crop == "same":
        extra = [f - s * stride for f, s in zip(full.shape[2:], SIZES, strict=False)]
        pads = [(max(0, e) // 2, e - max(0, e) // 2) for e in extra]
    elif crop == "output_shape":
        pads = [(0, -1)] * rank
        shape = [1, 3 * groups, *(size + 1 for size in full.shape[2:])]
        arguments = {"pad_type": "valid", "output_shape": shape}
    grown = np.pad(full, [(0, 0), (0, 0), *[(0, max(0, -after)) for _, after in pads]])
    kept = [
        slice(before, before + size - before - after)
        for size, (before, after) in zip(full.shape[2:], pads, strict=True)
    ]
    expected = grown[(slice(None), slice(None), *kept)] + bias.reshape(-1, *[1] * rank)

    def build(x: Any) -> Any:
        return mb.conv_transpose(
            x=x,
            weight=weight,
            bias=bias,
            strides=[stride] * rank,
            dilations=[dilation] * rank,
            groups=groups,
            **arguments,
        )

    name = f"conv_transpose{rank}d {crop} stride {stride} kernel {kernel} dilation {dilation}"
    return Case(name, {"x": x}, build, [expected])


def pool_case(kind: str, rank: int, pad_type: str, exclude: bool = False) -> Case:
    x = normal(1, 2, *SIZES[:rank])
    kernel, stride = 3, 2
    custom = [(1, 0), (1, 1), (0, 1)][:rank]
    pads = {
        "valid": [(0, 0)] * rank,
        "custom": custom,
        "same": same_pads(x.shape[2:], kernel, stride),
        "same_lower": same_pads(x.shape[2:], kernel, stride, lower=True),
    }[pad_type]
    axes = tuple(range(-rank, 0))
    found = slow_windows(x, pads, kernel, stride, np.nan)
    if kind == "max_pool":
        expected = np.nanmax(found, axes)
    elif kind == "l2_pool":
        expected = np.sqrt(np.nansum(found**2, axes))
    else:
        expected = np.nansum(found, axes)
        expected = expected / ((~np.isnan(found)).sum(axes) if exclude else kernel**rank)
    arguments: dict[str, Any] = {"pad": sum(custom, ())} if pad_type == "custom" else {}
    if kind == "avg_pool":
        arguments["exclude_padding_from_average"] = exclude

    def build(x: Any) -> Any:
        return getattr(mb, kind)(
            x=x,
            kernel_sizes=[kernel] * rank,
            strides=[stride] * rank,
            pad_type=pad_type,
            **arguments,
        )

    name = f"{kind} {rank}d {pad_type}{' exclude' if exclude else ''}"
    return Case(name, {"x": x}, build, [expected])


def torch_case(
    name: str, x: np.ndarray, build: Callable[..., Any], reference: Callable[[Tensor], Tensor]
) -> Case:
    return Case(name, {"x": x}, build, [reference(torch.from_numpy(x)).numpy()])


def ceil_case(kind: str, pad: int, exclude: bool = False, kernel: int = 3) -> Case:
    arguments = {"exclude_padding_from_average": exclude} if kind == "avg_pool" else {}

    def reference(x: Tensor) -> Tensor:
        if kind == "max_pool":
            return F.max_pool2d(x, kernel, 2, pad, ceil_mode=True)
        return F.avg_pool2d(x, kernel, 2, pad, ceil_mode=True, count_include_pad=not exclude)

    return torch_case(
        f"{kind} ceil kernel {kernel} pad {pad} exclude {exclude}",
        normal(1, 2, 5, 8),
        lambda x: getattr(mb, kind)(
            x=x,
            kernel_sizes=[kernel, kernel],
            strides=[2, 2],
            pad_type="custom",
            pad=[pad] * 4,
            ceil_mode=True,
            **arguments,
        ),
        reference,
    )


CONVOLUTIONS = [
    *[
        conv_case(rank, kind, 2, 1, 2)
        for rank in (1, 2, 3)
        for kind in ("valid", "custom", "same", "same_lower")
    ],
    conv_case(2, "same", 1, 2, 1),
    conv_case(3, "custom", 1, 2, 4),
    *[
        conv_transpose_case(rank, crop, 2, 3, 1, 2)
        for rank in (1, 2, 3)
        for crop in ("valid", "custom", "same", "output_shape")
    ],
    conv_transpose_case(2, "same", 1, 4, 1, 1),
    conv_transpose_case(2, "valid", 3, 2, 2, 1),
    conv_transpose_case(1, "same", 3, 2, 1, 1),
]
POOLS = [
    *[
        pool_case(kind, rank, pad_type)
        for kind in ("max_pool", "avg_pool")
        for rank in (1, 2, 3)
        for pad_type in ("valid", "custom", "same", "same_lower")
    ],
    pool_case("avg_pool", 2, "custom", exclude=True),
    pool_case("avg_pool", 3, "same", exclude=True),
    pool_case("l2_pool", 2, "same"),
    *[ceil_case("max_pool", pad) for pad in (0, 1)],
    *[ceil_case(kind, 1, kernel=2) for kind in ("max_pool", "avg_pool")],
    *[ceil_case("avg_pool", pad, exclude) for pad in (0, 1) for exclude in (False, True)],
]

SCALE, SHIFT = normal(4), normal(4)
VIDEO = normal(2, 4, 3, 2, 5)


def along_channels(x: Tensor, vector: np.ndarray) -> Tensor:
    return torch.from_numpy(vector).reshape(-1, *[1] * (x.ndim - 2)).expand(x.shape[1:])


def normalised(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + epsilon).sqrt()


NORMS = [
    torch_case(
        "layer_norm over the last axes",
        VIDEO,
        lambda x: mb.layer_norm(x=x, axes=[-2, -1], epsilon=np.float32(0.1)),
        lambda x: normalised(x, (-2, -1), 0.1),
    ),
    torch_case(
        "layer_norm over channels",
        VIDEO,
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=SCALE, beta=SHIFT, epsilon=np.float32(0.1)),
        lambda x: normalised(x, (1,), 0.1) * along_channels(x, SCALE) + along_channels(x, SHIFT),
    ),
    torch_case(
        "instance_norm",
        VIDEO[:, :, 0],
        lambda x: mb.instance_norm(x=x, gamma=SCALE, beta=SHIFT, epsilon=np.float32(0.1)),
        lambda x: normalised(x, (2, 3), 0.1) * along_channels(x, SCALE) + along_channels(x, SHIFT),
    ),
    torch_case(
        "batch_norm",
        VIDEO,
        lambda x: mb.batch_norm(
            x=x, mean=SHIFT, variance=SCALE**2, gamma=SHIFT, beta=SCALE, epsilon=np.float32(0.1)
        ),
        lambda x: (
            (x - along_channels(x, SHIFT))
            / (along_channels(x, SCALE**2) + 0.1).sqrt()
            * along_channels(x, SHIFT)
            + along_channels(x, SCALE)
        ),
    ),
    torch_case(
        "l2_norm",
        VIDEO,
        lambda x: mb.l2_norm(x=x, epsilon=np.float32(0.1)),
        lambda x: x / (x.square().sum((-3, -2, -1), keepdim=True) + 0.1).sqrt(),
    ),
    torch_case(
        "local_response_norm",
        VIDEO[:, :, 0],
        lambda x: mb.local_response_norm(
            x=x, size=3, alpha=np.float32(0.3), beta=np.float32(0.5), k=np.float32(2)
        ),
        lambda x: (
            x
            / torch.stack(
                [2 + 0.1 * x[:, max(0, c - 1) : c + 2].square().sum(1) for c in range(4)], 1
            ).sqrt()
        ),
    ),
]

# (size, target, mode) to grid points, from the docstring of coremltools' resize_bilinear.
GRIDS = {
    (5, "UNALIGN_CORNERS"): [0, 0.1, 0.5, 0.9, 1],
    (5, "STRICT_ALIGN_CORNERS"): [0, 0.25, 0.5, 0.75, 1],
    (5, "DEFAULT"): [0, 0.4, 0.8, 1, 1],
    (5, "OFFSET_CORNERS"): [0.1, 0.3, 0.5, 0.7, 0.9],
    (6, "UNALIGN_CORNERS"): [0, 0, 1 / 3, 2 / 3, 1, 1],
    (6, "ALIGN_CORNERS"): [0, 0.2, 0.4, 0.6, 0.8, 1],
    (6, "DEFAULT"): [0, 1 / 3, 2 / 3, 1, 1, 1],
    (6, "OFFSET_CORNERS"): [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12],
    (1, "ALIGN_CORNERS"): [0.5],
    (1, "STRICT_ALIGN_CORNERS"): [0],
}
PAIR = np.float32([0, 1]).reshape(1, 1, 1, 2)
IMAGE = normal(1, 2, 5, 6)
POINTS = generator.uniform(-1.4, 1.4, (1, 3, 4, 2)).astype(np.float32)


def resample_case(mode: str, padding: str, torch_padding: str, align: bool) -> Case:
    expected = F.grid_sample(
        torch.from_numpy(IMAGE), torch.from_numpy(POINTS), mode, torch_padding, align
    )

    def build(x: Any) -> Any:
        return mb.resample(
            x=x,
            coordinates=POINTS,
            sampling_mode=mode,
            padding_mode=padding,
            padding_value=np.float32(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=align,
        )

    return Case(f"resample {mode} {padding} {align}", {"x": IMAGE}, build, [expected.numpy()])


RESIZES = [
    *[
        Case(
            f"resize_bilinear to {target} {mode}",
            {"x": PAIR},
            lambda x, target=target, mode=mode: mb.resize_bilinear(
                x=x, target_size_height=1, target_size_width=target, sampling_mode=mode
            ),
            [np.float32(points).reshape(1, 1, 1, -1)],
        )
        for (target, mode), points in GRIDS.items()
    ],
    *[
        torch_case(
            f"upsample_bilinear align_corners {align}",
            IMAGE,
            lambda x, align=align: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=3, align_corners=align
            ),
            lambda x, align=align: F.interpolate(
                x, scale_factor=(2, 3), mode="bilinear", align_corners=align
            ),
        )
        for align in (True, False)
    ],
    Case(
        "upsample_bilinear without half pixels (coremltools' own expectation)",
        {"x": PAIR + 1},
        lambda x: mb.upsample_bilinear(
            x=x,
            scale_factor_height=1,
            scale_factor_width=3,
            align_corners=False,
            half_pixel_centers=False,
        ),
        [np.float32([1, 4 / 3, 5 / 3, 2, 2, 2]).reshape(1, 1, 1, 6)],
    ),
    torch_case(
        "upsample_nearest_neighbor",
        IMAGE,
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: F.interpolate(x, scale_factor=(2, 3)),
    ),
    torch_case(
        "upsample_nearest_neighbor by a fraction",
        IMAGE,
        lambda x: mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=np.float32(8 / 5), scale_factor_width=np.float32(10 / 6)
        ),
        lambda x: F.interpolate(x, size=(8, 10)),
    ),
    torch_case(
        "resize_nearest_neighbor",
        IMAGE,
        lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=7, target_size_width=4),
        lambda x: F.interpolate(x, size=(7, 4)),
    ),
    Case(
        "resize nearest (coremltools' own expectation)",
        {"x": np.float32([-6.174, 9.371]).reshape(1, 1, 2, 1)},
        lambda x: mb.resize(
            x=x,
            shape=[1, 1, 3, 2],
            resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR",
        ),
        [np.float32([-6.174, -6.174, 9.371, 9.371, 9.371, 9.371]).reshape(1, 1, 3, 2)],
    ),
    torch_case(
        "resize linear keeps a size of 0",
        IMAGE,
        lambda x: mb.resize(
            x=x, shape=[9, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"
        ),
        lambda x: F.interpolate(x, size=(9, 6), mode="bilinear", align_corners=False),
    ),
    torch_case(
        "crop",
        IMAGE,
        lambda x: mb.crop(x=x, crop_height=[1, 0], crop_width=[2, 1]),
        lambda x: x[:, :, 1:, 2:-1],
    ),
    *[
        resample_case(mode, padding, torch_padding, align)
        for mode in ("bilinear", "nearest")
        for padding, torch_padding, align in (
            ("constant", "zeros", True),
            ("constant", "zeros", False),
            ("border", "border", True),
            ("reflection", "reflection", True),
            ("symmetric", "reflection", False),
        )
    ],
    torch_case(
        "affine",
        IMAGE,
        lambda x: mb.affine(
            x=x,
            transform_matrix=np.float32([[1, 0.2, 0.1, -0.3, 0.8, 0]]),
            output_height=4,
            output_width=3,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=np.float32(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        lambda x: F.grid_sample(
            x,
            F.affine_grid(
                torch.tensor([[[1, 0.2, 0.1], [-0.3, 0.8, 0]]]), [1, 2, 4, 3], align_corners=True
            ),
            align_corners=True,
        ),
    ),
]

RIGHT = normal(1, 4, 3, 6)
QUERY, KEY, VALUE = normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 6)
ALLOWED = np.array([[True, False, True, True, False]] * 3)


def attention(mask: np.ndarray | None = None) -> np.ndarray:
    scores = QUERY @ KEY.swapaxes(-1, -2) / 2
    weights = np.exp(scores) * (1 if mask is None else mask)
    return weights / weights.sum(-1, keepdims=True) @ VALUE


PRODUCTS = [
    Case(
        "linear",
        {"x": QUERY[0]},
        lambda x: mb.linear(x=x, weight=KEY[0, 0], bias=np.float32([0, 1, 2, 3, 4])),
        [QUERY[0] @ KEY[0, 0].T + np.arange(5)],
    ),
    Case(
        "matmul transposed",
        {"x": QUERY, "y": KEY},
        lambda x, y: mb.matmul(x=x, y=y, transpose_y=True),
        [QUERY @ KEY.swapaxes(-1, -2)],
    ),
    Case(
        "einsum",
        {"x": QUERY, "y": RIGHT},
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        [np.stack([QUERY[:, :, h] @ RIGHT[:, :, h] for h in range(3)], 2)],
    ),
]
ATTENTION = [
    Case(
        "attention",
        {"q": QUERY, "k": KEY, "v": VALUE},
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
        [attention()],
    ),
    Case(
        "attention with a boolean mask",
        {"q": QUERY, "k": KEY, "v": VALUE},
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=ALLOWED),
        [attention(ALLOWED)],
    ),
    Case(
        "attention with an added mask",
        {"q": QUERY, "k": KEY, "v": VALUE},
        lambda q, k, v: mb.scaled_dot_product_attention(
            query=q, key=k, value=v, attn_mask=np.log(ALLOWED + np.float32(0.5))
        ),
        [attention(ALLOWED + 0.5)],
    ),
]


def slow_suppression(
    boxes: np.ndarray, scores: np.ndarray, iou: float, least: float, by_class: bool
) -> list[int]:
    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
        high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
        shared = np.prod(np.maximum(0, high - low))
        return float(shared / (np.prod(a[2:]) + np.prod(b[2:]) - shared))

    kept: list[int] = []
    for i in np.argsort(-scores.max(-1)):
        rivals = [k for k in kept if not by_class or scores[k].argmax() == scores[i].argmax()]
        if scores[i].max() > least and all(overlap(boxes[i], boxes[k]) <= iou for k in rivals):
            kept.append(int(i))
    return kept


BOXES = generator.uniform(1, 3, (1, 12, 4)).astype(np.float32)
SCORES = generator.uniform(0, 1, (1, 12, 3)).astype(np.float32)


def suppression_case(least: float, by_class: bool) -> Case:
    kept = slow_suppression(BOXES[0], SCORES[0], 0.3, least, by_class)[:5]
    kept = kept or [int(SCORES[0].max(-1).argmax())]
    indices = np.full((1, 5), -1)
    indices[0, : len(kept)] = kept
    boxes, scores = np.zeros((1, 5, 4)), np.zeros((1, 5, 3))
    boxes[0, : len(kept)], scores[0, : len(kept)] = BOXES[0, kept], SCORES[0, kept]
    arguments: dict[str, Any] = {
        "iou_threshold": np.float32(0.3),
        "max_boxes": 5,
        "per_class_suppression": by_class,
    }
    if least < 0:
        return Case(
            f"suppression of iOS 17, by class {by_class}",
            {"boxes": BOXES.swapaxes(1, 2), "scores": SCORES.swapaxes(1, 2)},
            lambda boxes, scores: mb.non_maximum_suppression(
                boxes=boxes, scores=scores, **arguments
            ),
            [boxes.swapaxes(1, 2), scores.swapaxes(1, 2), indices],
        )
    return Case(
        f"suppression of iOS 15 above {least}, by class {by_class}",
        {"boxes": BOXES, "scores": SCORES},
        lambda boxes, scores: mb.non_maximum_suppression(
            boxes=boxes, scores=scores, score_threshold=np.float32(least), **arguments
        ),
        [boxes, scores, indices, np.int32([len(kept)])],
    )


MODERN = [
    *CONVOLUTIONS,
    *POOLS,
    *NORMS,
    *RESIZES,
    *PRODUCTS,
    suppression_case(-1, True),
    suppression_case(-1, False),
]
OLD = [suppression_case(least, by_class) for least in (0.6, 2) for by_class in (True, False)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[np.ndarray]]:
    return {
        **run_cases(tmp_path_factory.mktemp("modern"), MODERN, ct.target.iOS17),
        **run_cases(tmp_path_factory.mktemp("old"), OLD, ct.target.iOS15),
        **run_cases(tmp_path_factory.mktemp("attention"), ATTENTION, ct.target.iOS18),
    }


@pytest.mark.parametrize("case", [*MODERN, *OLD, *ATTENTION], ids=lambda case: case.name)
def test_a_layer_gives_what_its_slow_reference_gives(
    results: dict[str, list[np.ndarray]], case: Case
) -> None:
    for got, expected in zip(results[case.name], case.expected, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
