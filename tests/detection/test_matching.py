from __future__ import annotations

import numpy as np

from edgekit.detection.detections import Detections
from edgekit.detection.matching import matched


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_each_box_is_matched_once_with_the_one_that_covers_it_best() -> None:
    expected = detections((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0))
    found = detections((0, 0, 10, 8, 0.9, 0), (0, 0, 10, 10, 0.7, 0))
    pairs = matched(expected, found)
    assert list(zip(pairs.expected.tolist(), pairs.found.tolist(), strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(pairs.ious, [1.0, 8 / 9])


def test_other_classes_and_small_overlaps_are_no_match() -> None:
    expected = detections((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1))
    found = detections((0, 0, 10, 10, 0.9, 1), (25.1, 0, 35.1, 10, 0.8, 1))
    assert len(matched(expected, found).ious) == 0
    assert len(matched(found, expected).ious) == 0


def test_an_overlap_of_half_is_a_match() -> None:
    pairs = matched(detections((0, 0, 10, 10, 0.9, 0)), detections((0, 0, 10, 5, 0.9, 0)))
    assert pairs.ious.tolist() == [0.5]


def test_nothing_matches_nothing() -> None:
    assert len(matched(detections(), detections()).ious) == 0
    assert len(matched(detections((0, 0, 1, 1, 0.5, 0)), detections()).ious) == 0
