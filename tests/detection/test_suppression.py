"""Suppression equals a slow reference and onnxruntime's operator, box for box."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.detection.detections import Floats
from edgekit.detection.suppression import overlaps, suppressed

Row = tuple[int, int]


def slow_overlap(a: Floats, b: Floats) -> np.float32:
    ax, bx = sorted((a[0], a[2])), sorted((b[0], b[2]))
    ay, by = sorted((a[1], a[3])), sorted((b[1], b[3]))
    wide, high = min(ax[1], bx[1]) - max(ax[0], bx[0]), min(ay[1], by[1]) - max(ay[0], by[0])
    if wide <= 0 or high <= 0:
        return np.float32(0)
    shared = wide * high
    union = (ax[1] - ax[0]) * (ay[1] - ay[0]) + (bx[1] - bx[0]) * (by[1] - by[0]) - shared
    return np.float32(shared / union)


def slow(boxes: Floats, scores: Floats, score: float, iou: float, limit: int) -> list[Row]:
    """Box and class, best first; of equal scores the earlier class, then the earlier box."""
    found: list[Row] = []
    for label in range(scores.shape[1]):
        kept: list[int] = []
        for box in sorted(range(len(boxes)), key=lambda box: (-scores[box, label], box)):
            free = all(slow_overlap(boxes[box], boxes[other]) <= np.float32(iou) for other in kept)
            if scores[box, label] > np.float32(score) and free and len(kept) < limit:
                kept.append(box)
        found += [(box, label) for box in kept]
    return sorted(found, key=lambda row: -scores[row[0], row[1]])[:limit]


@functools.cache
def session() -> onnxruntime.InferenceSession:
    floats, integers = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    names = {"boxes": floats, "scores": floats, "most": integers, "iou": floats, "score": floats}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("NonMaxSuppression", list(names), ["chosen"])],
        "nms",
        [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in names.items()],
        [onnx.helper.make_tensor_value_info("chosen", integers, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    return onnxruntime.InferenceSession(model.SerializeToString())


def by_onnxruntime(
    boxes: Floats, scores: Floats, score: float, iou: float, limit: int
) -> list[Row]:
    feeds = {
        "boxes": boxes[None],
        "scores": np.ascontiguousarray(scores.T[None]),
        "most": np.array([limit], np.int64),
        "iou": np.array([iou], np.float32),
        "score": np.array([score], np.float32),
    }
    chosen = session().run(None, feeds)[0]
    chosen = chosen[np.argsort(chosen[:, 1], kind="stable")]
    best = np.argsort([-scores[box, label] for _, label, box in chosen], kind="stable")[:limit]
    return [(int(chosen[row, 2]), int(chosen[row, 1])) for row in best]


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Floats, Floats]:
    count, classes = draw(st.integers(0, 14)), draw(st.integers(1, 3))
    corner = st.integers(0, 12)
    boxes = [draw(st.tuples(corner, corner, corner, corner)) for _ in range(count)]
    scores = [draw(st.lists(st.integers(0, 8), min_size=classes, max_size=classes)) for _ in boxes]
    return (
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(scores, np.float32).reshape(count, classes) / 8,
    )


@settings(deadline=None, max_examples=300)
@given(candidates(), st.integers(0, 8), st.integers(1, 10), st.integers(1, 6))
def test_the_same_boxes_as_the_slow_reference_and_onnxruntime(
    made: tuple[Floats, Floats], score: int, iou: int, limit: int
) -> None:
    boxes, scores = made
    least, most = score / 8, iou / 10
    found = suppressed(boxes, scores, least, most, limit)
    wanted = slow(boxes, scores, least, most, limit)
    np.testing.assert_array_equal(found.boxes, boxes[[box for box, _ in wanted]].reshape(-1, 4))
    np.testing.assert_array_equal(found.labels, [label for _, label in wanted])
    np.testing.assert_array_equal(found.scores, [scores[box, label] for box, label in wanted])
    if len(boxes):
        assert by_onnxruntime(boxes, scores, least, most, limit) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_crowded_pictures_give_onnxruntimes_boxes(seed: int) -> None:
    random = np.random.default_rng(seed)
    corner = random.random((600, 2), np.float32) * 80
    boxes = np.concatenate([corner, corner + random.random((600, 2), np.float32) * 40 + 1], 1)
    scores = random.random((600, 5), np.float32) ** 4
    found = suppressed(boxes, scores, 0.05, 0.6, 100)
    wanted = by_onnxruntime(boxes, scores, 0.05, 0.6, 100)
    assert len(found) == 100
    np.testing.assert_array_equal(found.boxes, boxes[[box for box, _ in wanted]])
    np.testing.assert_array_equal(found.labels, [label for _, label in wanted])


def test_an_iou_of_one_keeps_even_equal_boxes() -> None:
    boxes = np.tile(np.float32([1, 1, 5, 5]), (3, 1))
    scores = np.float32([[0.9], [0.8], [0.7]])
    assert len(suppressed(boxes, scores, 0.0, 1.0, 10)) == 3
    assert len(suppressed(boxes, scores, 0.0, 0.99, 10)) == 1


def test_a_box_that_is_not_finite_is_left_out() -> None:
    boxes = np.float32([[np.nan, 0, 4, 4], [0, 0, np.inf, 4], [0, 0, 4, 4]])
    found = suppressed(boxes, np.full((3, 1), 0.9, np.float32), 0.1, 0.5, 10)
    np.testing.assert_array_equal(found.boxes, boxes[2:])


def test_a_box_without_area_overlaps_nothing() -> None:
    flat, box = np.float32([[2, 2, 2, 8]]), np.float32([[0, 0, 9, 9]])
    assert overlaps(flat, box) == 0
    assert overlaps(flat, flat) == 0
    assert overlaps(box, box) == 1
