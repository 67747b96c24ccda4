from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.detection.anchors import centres, points_of_levels, ssd_anchors
from edgekit.detection.coders import (
    decode_anchors,
    decode_distances,
    encode_anchors,
    encode_distances,
)

LIKE = torch.zeros((), dtype=torch.float64)


def test_anchors_are_the_published_ones() -> None:
    """Scales, ratios and order written out; 2034 of them at 320 pixels."""
    cells = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    expected = []
    for level, (rows, columns) in enumerate(cells):
        if level == 0:
            shapes = [(0.1, 1), (0.2, 2), (0.2, 0.5)]
        else:
            scale = [0.35, 0.5, 0.65, 0.8, 0.95][level - 1]
            between = [0.4183, 0.5701, 0.7211, 0.8718, 0.9747][level - 1]
            shapes = [(scale, 1), (scale, 2), (scale, 0.5), (scale, 3), (scale, 0.3333), (between, 1)]  # fmt: skip
        for row in range(rows):
            for column in range(columns):
                for scale, ratio in shapes:
                    x, y = (column + 0.5) / columns * 320, (row + 0.5) / rows * 320
                    expected.append(
                        (x, y, scale * math.sqrt(ratio) * 320, scale / math.sqrt(ratio) * 320)
                    )
    anchors = ssd_anchors(cells, 320, 320, LIKE)
    assert len(expected) == 2034
    torch.testing.assert_close(
        anchors, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0.02
    )


def test_anchors_of_a_wide_picture_are_as_large_as_its_shorter_side_says() -> None:
    square, wide = (
        ssd_anchors([(2, 2)] * 2, 100, width, LIKE).view(2, -1, 4)[0] for width in (100, 300)
    )
    torch.testing.assert_close(square[:, 2:], wide[:, 2:])
    torch.testing.assert_close(square[:, 0] * 3, wide[:, 0])
    torch.testing.assert_close(square[:, 1], wide[:, 1])


def test_cells_run_along_rows_first() -> None:
    assert centres(2, 3, LIKE).tolist() == [
        [0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5],
    ]  # fmt: skip
    points, strides = points_of_levels([(1, 2), (1, 1)], (8, 16), LIKE)
    assert points.tolist() == [[4, 4], [12, 4], [8, 8]]
    assert strides.flatten().tolist() == [8, 8, 16]


BOX = st.tuples(*[st.floats(0, 300)] * 2, *[st.floats(1, 300)] * 2)


@settings(max_examples=60, deadline=None)
@given(box=BOX, anchor=BOX)
def test_codes_of_a_box_decode_to_it(box: tuple[float, ...], anchor: tuple[float, ...]) -> None:
    x, y, w, h = box
    boxes = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)
    anchors = torch.tensor([anchor], dtype=torch.float64)
    codes = encode_anchors(boxes, anchors)
    torch.testing.assert_close(decode_anchors(codes[None], anchors)[0], boxes)


def test_codes_have_the_published_order_and_factors() -> None:
    anchors = torch.tensor([[50.0, 60.0, 20.0, 40.0]])
    boxes = torch.tensor([[43.0, 42.0, 63.0, 82.0]])  # centre 3 right and 2 below, same size
    assert encode_anchors(boxes, anchors).tolist() == [[0.5, 1.5, 0.0, 0.0]]
    boxes = torch.tensor([[40.0, 20.0, 60.0, 100.0]])  # twice as high
    torch.testing.assert_close(
        encode_anchors(boxes, anchors), torch.tensor([[0.0, 0.0, 5 * math.log(2), 0.0]])
    )


def test_a_box_without_area_has_finite_codes() -> None:
    codes = encode_anchors(
        torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.tensor([[5.0, 5.0, 9.0, 9.0]])
    )
    assert torch.isfinite(codes).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 14.9), min_size=4, max_size=4), st.sampled_from([8, 16, 32]))
def test_distances_of_a_box_decode_to_it(sides: list[float], stride: int) -> None:
    points, strides = points_of_levels([(2, 3)], (stride,), LIKE)
    distances = torch.tensor(sides, dtype=torch.float64).expand(1, 6, 4)
    boxes = decode_distances(distances, points, strides)
    torch.testing.assert_close(encode_distances(boxes, points, strides), distances)


def test_distances_beyond_the_bins_are_cut() -> None:
    points, strides = points_of_levels([(1, 1)], (8,), LIKE)
    boxes = torch.tensor([[[-500.0, 10.0, 500.0, 500.0]]], dtype=torch.float64)  # its top is below
    codes = encode_distances(boxes, points, strides)[0, 0].tolist()
    assert codes[1] == 0
    assert max(codes) < 15
