from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgekit.detection.detections import Detections
from edgekit.detection.letterbox import fitted, normalised, place

SIDES = st.integers(1, 3000)


@given(
    SIDES,
    SIDES,
    st.integers(8, 700),
    st.integers(8, 700),
    st.sampled_from(["letterbox", "stretch"]),
)
def test_boxes_go_into_the_input_and_back(
    width: int, height: int, input_width: int, input_height: int, resize: str
) -> None:
    placement = place((width, height), (input_width, input_height), resize)
    boxes = np.float32([[0, 0, width, height], [width / 4, height / 3, width / 2, height / 2]])
    placed = placement.to_input(boxes)
    assert (placed >= 0).all()
    assert (placed <= [input_width, input_height] * 2).all()
    np.testing.assert_allclose(placement.to_picture(placed), boxes, rtol=1e-5, atol=1e-2)


@given(SIDES, SIDES, st.integers(8, 700), st.integers(8, 700))
def test_a_letterboxed_picture_is_as_large_as_fits_and_in_the_middle(
    width: int, height: int, input_width: int, input_height: int
) -> None:
    found = place((width, height), (input_width, input_height), "letterbox")
    fills_a_side = found.inner_width == input_width or found.inner_height == input_height
    assert fills_a_side
    assert abs(input_width - found.inner_width - 2 * found.left) <= 1
    assert abs(input_height - found.inner_height - 2 * found.top) <= 1
    exact = min(input_width / width, input_height / height)
    assert abs(found.inner_width - max(1, width * exact)) <= 0.51
    assert abs(found.inner_height - max(1, height * exact)) <= 0.51


def test_what_a_letterboxed_picture_leaves_free_has_the_fill_value() -> None:
    picture = Image.new("RGB", (40, 20), (255, 0, 0))
    pixels, placement = fitted(picture, (32, 32), "letterbox", 114)
    assert (placement.left, placement.top, placement.inner_height) == (0, 8, 16)
    assert (pixels[8:24] == [255, 0, 0]).all()
    assert (pixels[:8] == 114).all()
    assert (pixels[24:] == 114).all()


def test_a_stretched_picture_fills_the_input() -> None:
    pixels, _ = fitted(Image.new("RGB", (40, 20), (0, 9, 0)), (32, 24), "stretch", 114)
    assert pixels.shape == (24, 32, 3)
    assert (pixels == [0, 9, 0]).all()


def test_boxes_are_cut_at_the_picture_and_dropped_beside_it() -> None:
    placement = place((40, 20), (32, 32), "letterbox")
    boxes = np.float32([[-5, 0, 16, 16], [0, 0, 32, 7], [4, 4, 4, 20]])
    found = placement.found(
        Detections(boxes, np.float32([0.9, 0.8, 0.7]), np.array([0, 1, 2], np.int64))
    )
    np.testing.assert_allclose(found.boxes, [[0, 0, 20, 10]])
    assert found.labels.tolist() == [0]


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_values_are_normalised_in_the_networks_order(order: str) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    pixels = np.array([[[255, 51, 0]]], np.uint8)
    colours = [1.0, 0.2, 0.0] if order == "RGB" else [0.0, 0.2, 1.0]
    wanted = [(value - m) / s for value, m, s in zip(colours, mean, std, strict=True)]
    image = normalised(pixels, order, mean, std)
    assert image.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(image[0, :, 0, 0], wanted, rtol=1e-6)
