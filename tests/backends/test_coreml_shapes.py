"""Operators that move, pick, sort and create values, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Case, ct, mb, run_cases
from torch.nn import functional as F

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
IMAGE = np.arange(2 * 8 * 4 * 6, dtype=np.float32).reshape(2, 8, 4, 6)
BATCHES = np.arange(8 * 3, dtype=np.float32).reshape(8, 1, 1, 3)
MIXED = np.float32([[3, 1, 2, 1], [0, 5, 5, -1]])


def case(name: str, build: Any, expected: Any, x: np.ndarray = X, **inputs: np.ndarray) -> Case:
    several = expected if isinstance(expected, list) else [expected]
    return Case(name, {"x": x, **inputs}, build, several)


def depth_to_space(x: np.ndarray, b: int) -> np.ndarray:
    """Element by element: TensorFlow's DCR order."""
    n, c, h, w = x.shape
    y = np.zeros((n, c // b**2, h * b, w * b), x.dtype)
    for channel in range(c):
        offset, kept = divmod(channel, c // b**2)
        y[:, kept, offset // b :: b, offset % b :: b] = x[:, channel]
    return y


def space_to_batch(x: np.ndarray, b: int, pads: list[tuple[int, int]]) -> np.ndarray:
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    return np.concatenate([x[:, :, i::b, j::b] for i in range(b) for j in range(b)])


def scattered(data: np.ndarray, where: list[Any], updates: list[Any], combine: Any) -> np.ndarray:
    data = data.copy()
    for place, update in zip(where, updates, strict=True):
        data[place] = combine(data[place], update)
    return data


COMBINE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "update": lambda _, new: new,
}
ROWS = np.float32(np.arange(8).reshape(2, 1, 4) + 1)

CASES = [
    case("reshape keeps 0", lambda x: mb.reshape(x=x, shape=[0, -1, 2]), X.reshape(2, 6, 2)),
    case(
        "reshape aligns 0 right",
        lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]),
        np.arange(6.0).reshape(1, 1, 2, 3),
        x=np.arange(6, dtype=np.float32).reshape(2, 3),
    ),
    case(
        "reshape to a computed shape",
        lambda x: mb.reshape(x=x, shape=mb.shape(x=mb.transpose(x=x, perm=[2, 0, 1]))),
        X.reshape(4, 2, 3),
    ),
    case(
        "reshape_like",
        lambda x, y: mb.reshape_like(
            x=x, ref_tensors=(y, x), begins=(0, 2), ends=(1, 0), end_masks=(False, True)
        ),
        X.reshape(6, 4),
        y=np.zeros((6, 5), np.float32),
    ),
    case("flatten2d", lambda x: mb.flatten2d(x=x, axis=-1), X.reshape(6, 4)),
    case("expand_dims", lambda x: mb.expand_dims(x=x, axes=[-1, 1]), X[:, None, :, :, None]),
    case("squeeze", lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0, 3]), axes=[3]), X[None]),
    case("squeeze all", lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0, 3])), X),
    case("transpose", lambda x: mb.transpose(x=x, perm=[-1, 0, 1]), X.transpose(2, 0, 1)),
    case("reverse", lambda x: mb.reverse(x=x, axes=[0, -1]), X[::-1, :, ::-1]),
    case("reverse all", lambda x: mb.reverse(x=x), X[::-1, ::-1, ::-1]),
    case(
        "reverse_sequence",
        lambda x: mb.reverse_sequence(x=x, lengths=[2, 3], seq_axis=2, batch_axis=0),
        np.stack([X[0][:, [1, 0, 2, 3]], X[1][:, [2, 1, 0, 3]]]),
    ),
    case("concat", lambda x: mb.concat(values=(x, x), axis=-2), np.concatenate([X, X], 1)),
    case(
        "concat interleaved",
        lambda x, y: mb.concat(values=(x, y), axis=1, interleave=True),
        np.stack([X, -X], 2).reshape(2, 6, 4),
        y=-X,
    ),
    case("stack", lambda x: mb.stack(values=(x, x), axis=1), np.stack([X, X], 1)),
    case("split", lambda x: mb.split(x=x, axis=2, num_splits=2), [X[..., :2], X[..., 2:]]),
    case(
        "split unevenly",
        lambda x: mb.split(x=x, axis=-1, split_sizes=[1, 3]),
        [X[..., :1], X[..., 1:]],
    ),
    case("tile", lambda x: mb.tile(x=x, reps=[1, 2, 3]), np.tile(X, (1, 2, 3))),
    case(
        "pad constant",
        lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], constant_val=np.float32(7)),
        np.pad(X, [(0, 0), (1, 0), (2, 3)], constant_values=7),
    ),
    *[
        case(
            f"pad {mode}",
            lambda x, mode=mode: mb.pad(x=x, pad=[1, 0, 2, 1, 3, 2], mode=mode),
            np.pad(X, [(1, 0), (2, 1), (3, 2)], {"replicate": "edge"}.get(mode, mode)),
        )
        for mode in ("reflect", "replicate")
    ],
    case(
        "slice_by_index",
        lambda x: mb.slice_by_index(x=x, begin=[0, -2, 1], end=[2, -1, 4], stride=[1, 1, 2]),
        X[0:2, -2:-1, 1:4:2],
    ),
    case(
        "slice_by_index masked",
        lambda x: mb.slice_by_index(
            x=x,
            begin=[-1, 1, 1],
            end=[0, 2, 3],
            begin_mask=[False, True, False],
            end_mask=[False, False, True],
            squeeze_mask=[True, False, False],
        ),
        X[-1, :2, 1:],
    ),
    case(
        "slice_by_index backwards",
        lambda x: mb.slice_by_index(
            x=x,
            begin=[0, -1, 3],
            end=[2, 0, 0],
            stride=[1, -1, -2],
            end_mask=[False, False, True],
        ),
        X[0:2, -1:0:-1, 3::-2],
    ),
    case(
        "slice_by_index to a scalar",
        lambda x: mb.mul(
            x=x,
            y=mb.slice_by_index(x=x, begin=[1, 2, 3], end=[2, 3, 4], squeeze_mask=[True] * 3),
        ),
        X * 23,
    ),
    case(
        "slice_by_size",
        lambda x: mb.slice_by_size(x=x, begin=[0, 1, -3], size=[2, -1, 2]),
        X[:, 1:, 1:3],
    ),
    case(
        "sliding_windows",
        lambda x: mb.sliding_windows(x=x, axis=1, size=2, stride=1),
        np.stack([X[:, 0:2], X[:, 1:3]], 1),
    ),
    case(
        "pixel_shuffle",
        lambda x: mb.pixel_shuffle(x=x, upscale_factor=2),
        F.pixel_shuffle(torch.from_numpy(IMAGE), 2).numpy(),
        x=IMAGE,
    ),
    case(
        "pixel_unshuffle",
        lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        F.pixel_unshuffle(torch.from_numpy(IMAGE), 2).numpy(),
        x=IMAGE,
    ),
    case(
        "depth_to_space",
        lambda x: mb.depth_to_space(x=x, block_size=2),
        depth_to_space(IMAGE, 2),
        x=IMAGE,
    ),
    case(
        "space_to_depth",
        lambda x: mb.space_to_depth(x=mb.depth_to_space(x=x, block_size=2), block_size=2),
        IMAGE,
        x=IMAGE,
    ),
    case(
        "space_to_batch",
        lambda x: mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[1, 1], [2, 0]]),
        space_to_batch(IMAGE, 2, [(1, 1), (2, 0)]),
        x=IMAGE,
    ),
    case(
        "batch_to_space",
        lambda x: mb.batch_to_space(
            x=mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[1, 1], [2, 0]]),
            block_shape=[2, 2],
            crops=[[1, 1], [2, 0]],
        ),
        IMAGE,
        x=IMAGE,
    ),
    case(
        "gather",
        lambda x: mb.gather(x=x, indices=[[2, -1], [0, 1]], axis=1),
        X[:, [[2, -1], [0, 1]]],
    ),
    case("gather one", lambda x: mb.gather(x=x, indices=np.int32(1), axis=-1), X[..., 1]),
    case(
        "gather in batches",
        lambda x: mb.gather(x=x, indices=[[2, 0], [1, 1]], axis=1, batch_dims=1),
        np.stack([X[0][[2, 0]], X[1][[1, 1]]]),
    ),
    case(
        "gather_along_axis",
        lambda x: mb.gather_along_axis(x=x, indices=[[1, 3, 0], [0, -1, 2]], axis=1),
        np.take_along_axis(MIXED, np.array([[1, 3, 0], [0, 3, 2]]), 1),
        x=MIXED,
    ),
    case(
        "gather_nd",
        lambda x: mb.gather_nd(x=x, indices=[[1, 2], [0, 0]]),
        np.stack([X[1, 2], X[0, 0]]),
    ),
    case(
        "gather_nd in batches",
        lambda x: mb.gather_nd(x=x, indices=[[[1, 2]], [[0, 3]]], batch_dims=1),
        np.float32([[X[0, 1, 2]], [X[1, 0, 3]]]),
    ),
    *[
        case(
            f"scatter {mode}",
            lambda x, mode=mode: mb.scatter(
                data=x, indices=[2], updates=ROWS, axis=1, mode=mode, validate_indices=False
            ),
            scattered(X, [(slice(None), 2)], [ROWS[:, 0]], combine),
        )
        for mode, combine in COMBINE.items()
    ],
    case(
        "scatter_nd adds repeats",
        lambda x: mb.scatter_nd(
            data=x, indices=[[0, 1], [0, 1]], updates=np.ones((2, 4), np.float32), mode="add"
        ),
        scattered(X, [(0, 1)], [2], np.add),
    ),
    case(
        "scatter_along_axis",
        lambda x: mb.scatter_along_axis(
            data=x,
            indices=np.int32([[1], [3]]),
            updates=np.float32([[9], [8]]),
            axis=1,
            mode="update",
        ),
        scattered(MIXED, [(0, 1), (1, 3)], [9, 8], COMBINE["update"]),
        x=MIXED,
    ),
    case(
        "argsort",
        lambda x: mb.argsort(x=x, axis=1),
        np.int32([[0, 2, 1, 3], [1, 2, 0, 3]]),
        x=MIXED,
    ),
    case(
        "argsort ascending",
        lambda x: mb.argsort(x=x, axis=1, ascending=True),
        np.argsort(MIXED, 1, kind="stable"),
        x=MIXED,
    ),
    case(
        "topk",
        lambda x: mb.topk(x=x, k=2, axis=1),
        [np.float32([[3, 2], [5, 5]]), np.int32([[0, 2], [1, 2]])],
        x=MIXED,
    ),
    case(
        "topk smallest, values only",
        lambda x: mb.topk(x=x, k=2, axis=0, ascending=True, return_indices=False),
        np.sort(MIXED, 0),
        x=MIXED,
    ),
    case("non_zero", lambda x: mb.non_zero(x=x), np.argwhere(MIXED), x=MIXED),
    case("shape", lambda x: mb.shape(x=x), np.int32([2, 3, 4])),
    case("fill", lambda x: mb.add(x=x, y=mb.fill(shape=[3, 1], value=np.float32(2))), X + 2),
    case("fill_like", lambda x: mb.fill_like(ref_tensor=x, value=np.float32(3)), X * 0 + 3),
    case(
        "range_1d",
        lambda x: mb.add(x=x, y=mb.range_1d(start=0.5, end=4.0, step=1.0)),
        X + np.arange(0.5, 4),
    ),
    case(
        "one_hot",
        lambda x: mb.one_hot(
            indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=4, axis=1, on_value=2
        ),
        2 * np.eye(4)[[3, 1, 2]].T[None],
        x=np.float32([[3, 1, 2]]),
    ),
    case(
        "band_part",
        lambda x: mb.band_part(x=x, lower=1, upper=0),
        np.tril(X) * np.tri(3, 4) - np.tril(X, -2),
    ),
    case("cumsum", lambda x: mb.cumsum(x=x, axis=1), X.cumsum(1)),
    case(
        "cumsum exclusive from the end",
        lambda x: mb.cumsum(x=x, axis=2, exclusive=True, reverse=True),
        X[..., ::-1].cumsum(2)[..., ::-1] - X,
    ),
]
NEWER = [
    case(
        "slice_update",
        lambda x: mb.slice_update(
            x=x,
            update=np.full((2, 2, 4), -1, np.float32),
            begin=[0, 0, 0],
            end=[2, 3, 4],
            stride=[1, 2, 1],
        ),
        scattered(X, [(slice(None), slice(None, None, 2))], [-1], COMBINE["update"]),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[np.ndarray]]:
    newer = run_cases(tmp_path_factory.mktemp("newer"), NEWER, ct.target.iOS18)
    return run_cases(tmp_path_factory.mktemp("cases"), CASES) | newer


@pytest.mark.parametrize("case", [*CASES, *NEWER], ids=lambda case: case.name)
def test_values_arrive_where_numpy_puts_them(
    results: dict[str, list[np.ndarray]], case: Case
) -> None:
    for got, expected in zip(results[case.name], case.expected, strict=True):
        np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-6)
