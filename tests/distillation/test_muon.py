from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgekit.distillation.muon import Muon, mixes_channels, orthogonal


@settings(deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.floats(1e-4, 1e4), st.integers(0, 9))
def test_singular_values_come_near_one_whatever_the_scale(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows))
    right, _ = torch.linalg.qr(torch.randn(columns, columns))
    values = torch.rand(min(rows, columns)) * 0.9 + 0.1
    matrix = scale * left[:, : len(values)] @ torch.diag(values) @ right[: len(values)]
    found = torch.linalg.svdvals(orthogonal(matrix))
    assert ((found > 0.4) & (found < 1.3)).all()


def test_singular_directions_stay() -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(5, 5))
    right, _ = torch.linalg.qr(torch.randn(9, 9))
    values = torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5])
    in_its_axes = left.T @ orthogonal(left @ torch.diag(values) @ right[:5]) @ right.T
    off_diagonal = in_its_axes.clone()
    off_diagonal.diagonal().zero_()
    assert off_diagonal.abs().max() < 1e-5


def test_a_step_has_the_declared_size_whatever_the_gradient() -> None:
    for scale in (1e-6, 1.0, 1e6):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.zeros(64, 64, 3, 3))
        optimiser = Muon([weight], learning_rate=0.01)
        weight.grad = scale * torch.randn_like(weight)
        optimiser.step()
        rms = weight.detach().square().mean().sqrt().item()
        assert 0.7 * 0.01 * 0.2 < rms < 1.3 * 0.01 * 0.2


def test_a_matrix_that_must_be_reached_is_reached() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(8, 12), nn.Parameter(torch.zeros(8, 12))
    optimiser = Muon([weight], learning_rate=0.3)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.3 * (1 - step / 200)
        optimiser.zero_grad()
        (weight - target).square().sum().backward()
        optimiser.step()
    assert (weight - target).abs().max() < 0.05


def test_biases_norms_and_depthwise_kernels_are_left_to_another_optimiser() -> None:
    depthwise = nn.Conv3d(4, 4, 5, groups=4)
    assert mixes_channels(nn.Conv2d(4, 8, 3).weight)
    assert mixes_channels(nn.Linear(4, 8).weight)
    assert not any(map(mixes_channels, depthwise.parameters()))
    assert not any(map(mixes_channels, nn.GroupNorm(2, 4).parameters()))
