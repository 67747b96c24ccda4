from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.detection.anchors import ssd_anchors, ssd_cells
from edgekit.detection.assignment_anchors import match_anchors
from edgekit.detection.losses_ssd import SSDLoss, sigmoid_focal
from edgekit.detection.targets import Target


def slow_iou(a: list[float], b: list[float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def slow_match(anchors: list[list[float]], boxes: list[list[float]]) -> list[int]:
    corners = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in anchors]
    table = [[slow_iou(corner, box) for box in boxes] for corner in corners]
    matched = []
    for row in table:
        best = max(range(len(boxes)), key=lambda index: row[index])
        matched.append(best if row[best] >= 0.5 else -1)
    forced: dict[int, int] = {}
    for index in range(len(boxes)):
        column = [row[index] for row in table]
        place = column.index(max(column))
        if column[place] > 0:
            forced.setdefault(place, index)
    return [forced.get(place, objects) for place, objects in enumerate(matched)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), objects=st.integers(1, 6))
def test_anchors_are_matched_by_overlap_and_every_object_gets_its_best(
    seed: int, objects: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.rand(30, 4, generator=generator, dtype=torch.float64) * 40 + 10
    low = torch.rand(objects, 2, generator=generator, dtype=torch.float64) * 60
    size = torch.rand(objects, 2, generator=generator, dtype=torch.float64) * 40 + 1
    boxes = torch.cat([low, low + size], dim=1)
    target = Target(boxes, torch.zeros(objects, dtype=torch.int64))
    assert match_anchors(anchors, target).tolist() == slow_match(anchors.tolist(), boxes.tolist())


def test_of_two_objects_with_one_best_anchor_the_first_gets_it() -> None:
    anchors = torch.tensor([[10.0, 10, 10, 10], [90.0, 90, 4, 4]])
    boxes = torch.tensor([[5.0, 5, 14, 15], [5.0, 5, 15, 15]])
    assert match_anchors(anchors, Target(boxes, torch.tensor([0, 0]))).tolist() == [0, -1]


def test_an_object_that_no_anchor_touches_is_not_forced_on_one() -> None:
    anchors = torch.tensor([[10.0, 10, 4, 4]])
    target = Target(torch.tensor([[50.0, 50, 60, 60]]), torch.tensor([0]))
    assert match_anchors(anchors, target).tolist() == [-1]


def test_the_focal_loss_is_the_written_out_one() -> None:
    logits = torch.tensor([-3.0, -0.5, 0.0, 2.0, 90.0, -90.0], dtype=torch.float64)
    for goal in (0.0, 1.0):
        loss = sigmoid_focal(logits, torch.full_like(logits, goal), 0.75, 2.0)
        for z, got in zip(logits.tolist(), loss.tolist()):
            # log1p keeps the digits where a probability is next to 1
            minus_log_p = math.log1p(math.exp(-z)) if z > -50 else -z
            minus_log_q = math.log1p(math.exp(z)) if z < 50 else z
            p = 1 / (1 + math.exp(-z))
            expected = 0.75 * (1 - p) ** 2 * minus_log_p if goal else 0.25 * p**2 * minus_log_q
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-30)


def test_the_loss_is_the_sum_over_matched_anchors_by_their_number() -> None:
    """One object that is an anchor exactly: its box term is known, and each class term is counted."""
    height = width = 64
    anchors = ssd_anchors(ssd_cells(height, width), height, width, torch.zeros(()))
    x, y, w, h = anchors[60].tolist()
    target = Target(
        torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]]), torch.tensor([1])
    ).usable(height, width)
    matched = match_anchors(anchors, target)
    count = int((matched >= 0).sum())
    codes = torch.zeros(1, len(anchors), 4)
    logits = torch.full((1, len(anchors), 4), -20.0)
    losses = SSDLoss()((codes, logits), [target], (height, width))
    assert losses.terms["classes"].item() == pytest.approx(0.75 * 20, rel=1e-5)
    box = target.boxes[0].tolist()
    expected = 0.0
    for place in torch.nonzero(matched >= 0).flatten().tolist():
        ax, ay, aw, ah = anchors[place].tolist()
        numbers = [
            10 * ((box[1] + box[3]) / 2 - ay) / ah,
            10 * ((box[0] + box[2]) / 2 - ax) / aw,
            5 * math.log((box[3] - box[1]) / ah),
            5 * math.log((box[2] - box[0]) / aw),
        ]
        expected += sum(0.5 * v * v if abs(v) < 1 else abs(v) - 0.5 for v in numbers) / 4
    assert losses.terms["boxes"].item() == pytest.approx(expected / count, rel=1e-4)
    assert losses.total.item() == pytest.approx(
        losses.terms["boxes"].item() + losses.terms["classes"].item()
    )
