from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ssd_loss import slow_iou
from torch import Tensor

from edgekit.detection.anchors import points_of_levels
from edgekit.detection.assignment_aligned import AlignedAssigner, Assignment
from edgekit.detection.losses_leyolo import LeYOLOLoss, distribution_loss
from edgekit.detection.overlap import complete_iou, iou
from edgekit.detection.targets import Target


def slow_complete_iou(a: list[float], b: list[float]) -> float:
    plain = slow_iou(a, b)
    wide = max(a[2], b[2]) - min(a[0], b[0])
    high = max(a[3], b[3]) - min(a[1], b[1])
    dx = (a[0] + a[2]) / 2 - (b[0] + b[2]) / 2
    dy = (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2
    angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    factor = v / (1 - plain + v) if v else 0.0
    return plain - (dx**2 + dy**2) / (wide**2 + high**2) - factor * v


def random_boxes(count: int, generator: torch.Generator, size: float = 64) -> torch.Tensor:
    low = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size * 0.7
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size * 0.6 + 2
    return torch.cat([low, low + sides], dim=1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_overlaps_are_the_written_out_ones(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = random_boxes(5, generator), random_boxes(5, generator)
    for index in range(5):
        pair = a[index].tolist(), b[index].tolist()
        assert iou(a, b)[index].item() == pytest.approx(slow_iou(*pair), abs=1e-6)
        assert complete_iou(a, b)[index].item() == pytest.approx(slow_complete_iou(*pair), abs=1e-6)


def test_boxes_without_area_have_finite_overlaps_and_slopes() -> None:
    flat = torch.tensor([[5.0, 5, 5, 5], [0.0, 0, 0, 9]], requires_grad=True)
    complete_iou(flat, torch.tensor([[5.0, 5, 5, 5]])).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def slow_assignment(
    boxes: list[list[float]],
    scores: list[list[float]],
    points: list[list[float]],
    objects: list[list[float]],
    classes: list[int],
    count: int,
) -> tuple[list[int], dict[int, float]]:
    """Object and wanted score of each point."""
    table = {}
    for k, (box, kind) in enumerate(zip(objects, classes)):
        for p, (x, y) in enumerate(points):
            if box[0] < x < box[2] and box[1] < y < box[3]:
                overlap = max(0.0, slow_complete_iou(box, boxes[p]))
                table[k, p] = (scores[p][kind] ** 0.5 * overlap**6, overlap)
    chosen = set()
    for k in range(len(objects)):
        mine = sorted((-value[0], p) for (owner, p), value in table.items() if owner == k)
        chosen |= {(k, p) for _, p in mine[:count]}
    owners = [-1] * len(points)
    for p in range(len(points)):
        rivals = [(table[k, p][1], -k) for k in range(len(objects)) if (k, p) in chosen]
        if rivals:
            owners[p] = -max(rivals)[1]
    wanted = {}
    for k in range(len(objects)):
        mine = [p for p, owner in enumerate(owners) if owner == k]
        if mine:
            most = max(table[k, p][0] for p in mine)
            best = max(table[k, p][1] for p in mine)
            for p in mine:
                wanted[p] = table[k, p][0] / (most + 1e-9) * best
    return owners, wanted


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), objects=st.integers(1, 4), count=st.sampled_from([2, 10]))
def test_points_are_assigned_by_score_and_overlap(seed: int, objects: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    like = torch.zeros((), dtype=torch.float64)
    points, _ = points_of_levels([(6, 7), (3, 4)], (8, 16), like)
    reach = torch.rand(len(points), 4, generator=generator, dtype=torch.float64) * 25 + 1
    boxes = torch.cat([points - reach[:, :2], points + reach[:, 2:]], dim=1)
    scores = torch.rand(len(points), 3, generator=generator, dtype=torch.float64)
    target = Target(
        random_boxes(objects, generator), torch.randint(3, (objects,), generator=generator)
    )
    assigned = AlignedAssigner(points=count)(boxes, scores, points, target)
    owners, wanted = slow_assignment(
        boxes.tolist(), scores.tolist(), points.tolist(), target.boxes.tolist(), target.classes.tolist(), count,
    )  # fmt: skip
    # Where nothing overlaps an object at all its points are equal, and any of them may be chosen.
    certain = [p for p in range(len(points)) if wanted.get(p, 1.0) > 1e-12]
    assert all(assigned.objects[p] == owners[p] for p in certain if p in wanted)
    expected = torch.zeros_like(scores)
    for p, value in wanted.items():
        expected[p, target.classes[owners[p]]] = value
    torch.testing.assert_close(assigned.scores, expected, rtol=1e-4, atol=1e-7)


def test_an_image_without_objects_assigns_nothing() -> None:
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assigned = AlignedAssigner()(torch.rand(5, 4), torch.rand(5, 2), torch.rand(5, 2), target)
    assert assigned.objects.tolist() == [-1] * 5
    assert not assigned.scores.any()


def test_a_distance_is_a_mixture_of_the_two_bins_around_it() -> None:
    bins = torch.randn(4, 16, dtype=torch.float64)
    for wanted, (low, high) in ((3.25, (0.75, 0.25)), (0.0, (1.0, 0.0)), (14.99, (0.01, 0.99))):
        got = distribution_loss(bins, torch.full((4,), wanted, dtype=torch.float64))
        chances = bins.softmax(dim=1).log()
        floor = int(wanted)
        expected = -(low * chances[:, floor] + high * chances[:, floor + 1])
        torch.testing.assert_close(got, expected)


def test_the_total_weighs_its_terms_and_grows_with_the_batch() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, 66, size, size) for size in (8, 4, 2)]
    target = Target(torch.tensor([[10.0, 12, 40, 50]]), torch.tensor([1]))
    one = LeYOLOLoss()(maps, [target], (64, 64))
    expected = 7.5 * one.terms["boxes"] + 0.5 * one.terms["classes"] + 1.5 * one.terms["distances"]
    assert one.total.item() == pytest.approx(expected.item())
    heavy = LeYOLOLoss(assigner=ManyScores())
    single, double = (
        heavy([x.repeat(n, 1, 1, 1) for x in maps], [target] * n, (64, 64)).total for n in (1, 2)
    )
    assert double.item() == pytest.approx(2 * single.item(), rel=1e-5)


class ManyScores(AlignedAssigner):
    """Every point is the object's, with score 1: the sum to divide by is above 1."""

    def __call__(self, boxes: Tensor, scores: Tensor, points: Tensor, target: Target) -> Assignment:
        wanted = torch.zeros_like(scores)
        wanted[: len(points), target.classes[0]] = 1
        return Assignment(torch.zeros(len(boxes), dtype=torch.int64), wanted)
