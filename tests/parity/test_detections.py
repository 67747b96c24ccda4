"""Verdicts on a detector's file by matching boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.box_contract import Boxes, Thresholds
from edgekit.contract import TensorSpec
from edgekit.parity.detections import judge
from edgekit.report import DetectionGate, Gate, Report

BOXES = Boxes(2, ("a", "b"), (16,), (1,), "stretch", limit=40)
GATE = Gate(100.0, detections=DetectionGate(0.99, 0.99, 0.01, 0.001, 20.0))
SPECS = BOXES.specs(128, 128)
RANDOM = np.random.default_rng(0)
GRID = np.stack(np.meshgrid(np.arange(8) * 16, np.arange(8) * 16), -1).reshape(-1, 2)
WANTED = {
    "boxes": np.concatenate([GRID, GRID + 14], -1)[None].astype(np.float32),
    "scores": (0.35 + 0.6 * RANDOM.random((1, 64, 2), np.float32)).astype(np.float32),
}
Outputs = dict[str, np.ndarray]


def judged(actual: Outputs, expected: Outputs = WANTED, gate: Gate = GATE) -> Report:
    return judge(expected, actual, SPECS, gate, "a runtime", BOXES)


def changed(**values: np.ndarray) -> Outputs:
    return {**{name: value.copy() for name, value in WANTED.items()}, **values}


def test_the_same_boxes_pass_and_are_counted() -> None:
    report = judged(changed())
    found = report.detections
    assert report.passed
    assert found is not None
    assert (found.expected, found.matched, found.missing, found.extra) == (40, 40, 0, 0)
    assert (found.mean_iou, found.max_score_difference) == (1.0, 0.0)
    assert "40 of 40 matched, 0 near ties, 0 missing, 0 extra; IoU mean 1.0000" in report.table()
    assert "gate: 20 dB, 99% of the boxes at a mean IoU of 0.99" in report.table()


def test_moved_boxes_fail_by_their_overlap() -> None:
    report = judged(changed(boxes=WANTED["boxes"] + 1))
    assert not report.passed
    assert report.detections is not None
    assert report.detections.mean_iou == pytest.approx(13**2 / (2 * 14**2 - 13**2), abs=1e-3)
    assert report.reasons == [
        "the mean IoU 0.7578 of boxes whose corners are more than 0.01 px apart is below 0.99."
    ]


def test_a_lost_box_is_missing_and_the_class_it_went_to_is_extra() -> None:
    scores = WANTED["scores"].copy()
    best = np.unravel_index(scores[0].argmax(), scores[0].shape)
    scores[0, best[0]] = scores[0, best[0]][::-1]
    report = judged(changed(scores=scores))
    assert not report.passed
    found = report.detections
    assert found is not None
    assert (found.missing, found.extra) == (1, 1)
    assert "1 of 40 boxes of the model have no match in the file." in report.reasons


def test_scores_that_differ_fail_by_their_difference() -> None:
    report = judged(changed(scores=WANTED["scores"] - np.float32(0.01)))
    assert report.reasons == ["scores of matched boxes differ by up to 0.0100, more than 0.001."]


def test_boxes_at_the_edge_of_being_shown_may_differ() -> None:
    scores = np.full((1, 64, 2), 0.1, np.float32)
    scores[0, :30, 0] = 0.6
    scores[0, 30, 0] = 0.3002
    ours, theirs = changed(scores=scores), changed(scores=scores.copy())
    theirs["scores"][0, 30, 0] = 0.2998
    found = judged(theirs, ours).detections
    assert found is not None
    assert (found.expected, found.found, found.missing, found.passed) == (31, 30, 0, True)


def test_where_little_is_above_the_threshold_the_best_are_compared() -> None:
    low = changed(scores=WANTED["scores"] / 100)
    found = judged(low, low).detections
    assert found is not None
    assert found.expected == 20
    assert found.score < 0.01


def test_a_detector_that_scores_nothing_says_so() -> None:
    nothing = changed(scores=np.zeros((1, 64, 2), np.float32))
    assert (
        "none on either side, so that they prove nothing here" in judged(nothing, nothing).table()
    )


def test_candidates_that_nobody_sees_have_a_gate_of_their_own() -> None:
    ours = changed(scores=WANTED["scores"].copy())
    ours["scores"][0, ::2] = 0.05
    theirs = changed(scores=ours["scores"].copy())
    theirs["scores"][0, ::2] = 0.12  # 23 dB
    assert judged(theirs, ours).passed
    strict = replace(GATE, detections=DetectionGate(0.99, 0.99, 0.01, 0.001))
    (reason,) = judged(theirs, ours, strict).reasons
    assert "dB is below the gate of 100 dB." in reason


def test_outputs_that_cannot_be_compared_are_told_as_of_any_file() -> None:
    report = judged(changed(scores=np.full((1, 64, 2), np.nan, np.float32)))
    assert not report.passed
    assert report.detections is None
    assert "128 of 128 values of the file are NaN or Inf." in report.reasons[0]


def test_rows_of_a_file_that_suppresses_itself_may_change_places() -> None:
    within = Thresholds(0.3, 0.5, 4)
    rows = {
        "boxes": np.float32([[[0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 0, 0], [0, 0, 0, 0]]]),
        "scores": np.float32([[0.9, 0.9, 0, 0]]),
        "labels": np.array([[1, 0, -1, -1]]),
    }
    swapped = {name: value[:, [1, 0, 2, 3]] for name, value in rows.items()}
    specs = tuple(TensorSpec(name, value.shape, str(value.dtype)) for name, value in rows.items())
    report = judge(rows, swapped, specs, GATE, "a runtime", BOXES, within)
    assert report.passed, report.table()
    lost = {**rows, "labels": np.array([[1, -1, -1, -1]])}
    assert not judge(rows, lost, specs, GATE, "a runtime", BOXES, within).passed


def test_a_tie_that_falls_the_other_way_is_no_missing_box() -> None:
    """Two boxes that overlap by 0.67 and score all but the same: each runtime shows one of them."""
    ours = {
        "boxes": np.zeros((1, 64, 4), np.float32),
        "scores": np.zeros((1, 64, 2), np.float32),
    }
    ours["boxes"][0, :2] = [[0, 0, 50, 50], [10, 0, 60, 50]]
    ours["scores"][0, :2, 0] = [0.8, 0.7999]
    theirs = changed(boxes=ours["boxes"], scores=ours["scores"].copy())
    theirs["scores"][0, :2, 0] = [0.7999, 0.8]
    found = judged(theirs, ours).detections
    assert found is not None
    assert (found.expected, found.matched, found.near_ties, found.missing) == (1, 0, 1, 0)
    assert found.passed
    assert "most are near ties, as of weights that are not trained" in found.sentence()
    theirs["scores"][0, :2, 0] = [0.5, 0.8]
    report = judged(theirs, ours)
    assert not report.passed
    assert report.detections is not None
    assert report.detections.mean_iou == pytest.approx(2 / 3)


def test_a_peak_that_a_neighbour_took_is_no_missing_box() -> None:
    """As of CenterNet, whose peak test leaves 0 beside the better one; the boxes are apart in shape."""
    ours = {
        "boxes": np.zeros((1, 64, 4), np.float32),
        "scores": np.zeros((1, 64, 2), np.float32),
    }
    ours["boxes"][0, :2] = [[0, 0, 40, 40], [20, 4, 40, 68]]
    ours["scores"][0, 0, 0] = 0.8
    theirs = changed(boxes=ours["boxes"], scores=np.zeros((1, 64, 2), np.float32))
    theirs["scores"][0, 1, 0] = 0.7999
    report = judged(theirs, ours)
    found = report.detections
    assert found is not None
    assert (found.missing, found.extra, found.near_ties) == (0, 0, 1)
    assert report.passed, report.table()
    assert "2 of 128 scores are 0 on one side only" in report.table()
    theirs["scores"][0, 1, 0] = 0.7
    assert not judged(theirs, ours).passed


def test_tiny_boxes_may_lose_overlap_by_less_than_a_pixel() -> None:
    boxes = np.concatenate([GRID, GRID + 0.5], -1)[None].astype(np.float32)
    gate = replace(GATE, detections=DetectionGate(0.9, 0.95, 0.5, 0.02, 20.0))
    report = judged(changed(boxes=boxes + 0.05), changed(boxes=boxes), gate)
    assert report.passed, report.table()
    assert report.detections is not None
    assert report.detections.max_corner_px == pytest.approx(0.05, abs=1e-4)
    assert not judged(changed(boxes=boxes + 0.05), changed(boxes=boxes)).passed
