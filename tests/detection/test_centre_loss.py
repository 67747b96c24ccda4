from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.detection.assignment_centres import bump_radius, centre_maps
from edgekit.detection.losses_centres import CentreLoss, peak_focal
from edgekit.detection.targets import Target


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 4))
def test_each_object_leaves_a_bump_of_its_class(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * torch.tensor([80.0, 50.0])
    sizes = torch.rand(count, 2, generator=generator) * 40 + 2
    target = Target(
        torch.cat([low, low + sizes], dim=1), torch.randint(3, (count,), generator=generator)
    ).usable(64, 96)
    maps = centre_maps(target, 3, 16, 24, 4)
    expected = torch.zeros(3, 16, 24)
    for (x1, y1, x2, y2), kind in zip((target.boxes / 4).tolist(), target.classes.tolist()):
        column, row = min(23, int((x1 + x2) / 2)), min(15, int((y1 + y2) / 2))
        radius = int(bump_radius(math.ceil(y2 - y1), math.ceil(x2 - x1)))
        sigma = (2 * radius + 1) / 6
        for y in range(16):
            for x in range(24):
                if abs(y - row) <= radius and abs(x - column) <= radius:
                    value = math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
                    expected[kind, y, x] = max(expected[kind, y, x].item(), value)
    torch.testing.assert_close(maps.heat, expected)
    assert (maps.heat == 1).sum() <= count
    rebuilt = maps.cells.flip(1) + maps.offsets
    torch.testing.assert_close(rebuilt * 4, (target.boxes[:, :2] + target.boxes[:, 2:]) / 2)
    torch.testing.assert_close(maps.sizes * 4, target.boxes[:, 2:] - target.boxes[:, :2])


def test_the_radius_is_centernet_s() -> None:
    """The third root of 10 by 20 cells: a = 2.8, b = -42, c = -60, over 2 instead of over 2a."""
    third = (-42 + math.sqrt(42**2 + 4 * 2.8 * 60)) / 2
    assert bump_radius(10, 20) == pytest.approx(third)
    assert bump_radius(1, 1) >= 0


def test_the_heat_loss_is_the_written_out_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    heat = torch.rand(1, 2, 3, 3, dtype=torch.float64) * 0.9
    heat[0, 0, 1, 1] = heat[0, 1, 2, 0] = 1
    total = 0.0
    for z, goal in zip(logits.flatten().tolist(), heat.flatten().tolist()):
        p = 1 / (1 + math.exp(-z))
        if goal == 1:
            total -= (1 - p) ** 2 * math.log(p)
        else:
            total -= (1 - goal) ** 4 * p**2 * math.log(1 - p)
    assert peak_focal(logits, heat).item() == pytest.approx(total / 2)
    empty = peak_focal(logits, heat * 0).item()
    assert empty == pytest.approx(
        -sum(
            math.log(1 - 1 / (1 + math.exp(-z))) / (1 + math.exp(-z)) ** 2
            for z in logits.flatten().tolist()
        )
    )


def test_sizes_and_offsets_are_compared_at_centres_only() -> None:
    heat, sizes, offsets = torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    sizes[0, :, 2, 3] = torch.tensor([4.0, 3.0])
    offsets[0, :, 2, 3] = torch.tensor([0.25, 0.75])
    sizes[0, :, 0, 0] = 100
    # 4 by 2 cells around x 3.5, y 2.5
    target = Target(torch.tensor([[6.0, 6.0, 22.0, 14.0]]), torch.tensor([0]))
    losses = CentreLoss()((heat, sizes, offsets), [target], (32, 32))
    assert losses.terms["sizes"].item() == pytest.approx(1 / 2, rel=1e-3)
    assert losses.terms["offsets"].item() == pytest.approx(0.5 / 2, rel=1e-3)
    expected = losses.terms["heat"] + 0.1 * losses.terms["sizes"] + losses.terms["offsets"]
    assert losses.total.item() == pytest.approx(expected.item())
