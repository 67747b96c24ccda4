from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.distillation.losses import pyramid_l1, relative_feature_error
from edgekit.distillation.quality import psnr_db, ssim


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def slow_pyramid(x: np.ndarray, y: np.ndarray, levels: int) -> float:
    total = 0.0
    for level in range(levels):
        side = 2**level
        differences = []
        for n in range(x.shape[0]):
            for c in range(x.shape[1]):
                for top in range(0, x.shape[2], side):
                    for left in range(0, x.shape[3], side):
                        block = np.s_[n, c, top : top + side, left : left + side]
                        differences.append(abs(x[block].mean() - y[block].mean()))
        total += float(np.mean(differences)) / (levels - 1 if level else 1)
    return total


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_the_pyramid_adds_the_mean_of_l1_over_octaves_of_block_means(levels: int) -> None:
    x, y = pictures(2, 3, 16, 32), pictures(2, 3, 16, 32, seed=1)
    expected = slow_pyramid(x.double().numpy(), y.double().numpy(), levels)
    assert float(pyramid_l1(x, y, levels)) == pytest.approx(expected, rel=1e-5)


def test_the_pyramid_of_equal_pictures_is_zero() -> None:
    x = pictures(1, 3, 16, 16)
    assert float(pyramid_l1(x, x)) == 0.0


def test_features_of_zeros_have_the_relative_error_one() -> None:
    teacher = 7 * pictures(2, 4, 3, 3)
    assert float(relative_feature_error(torch.zeros_like(teacher), teacher)) == pytest.approx(1.0)
    half = relative_feature_error(teacher / 2, teacher)
    assert float(half) == pytest.approx(0.25)


def slow_psnr(x: np.ndarray, y: np.ndarray) -> float:
    squares = [(min(max(a, 0.0), 1.0) - b) ** 2 for a, b in zip(x.flat, y.flat, strict=True)]
    return -10 * math.log10(sum(squares) / len(squares))


def test_psnr_is_per_picture_with_peak_one_after_clamping() -> None:
    x, y = 1.4 * pictures(2, 3, 6, 7) - 0.2, pictures(2, 3, 6, 7, seed=1)
    expected = [slow_psnr(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    torch.testing.assert_close(psnr_db(x, y), torch.tensor(expected), rtol=1e-5, atol=1e-4)
    assert psnr_db(y, y).tolist() == [math.inf, math.inf]


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """One picture C H W: every 11x11 window that fits, weighted means and covariances by hand."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weight = np.outer(line, line) / line.sum() ** 2
    scores = []
    for a, b in zip(x, y, strict=True):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                u = a[top : top + 11, left : left + 11]
                v = b[top : top + 11, left : left + 11]
                mean_u, mean_v = (weight * u).sum(), (weight * v).sum()
                var_u = (weight * (u - mean_u) ** 2).sum()
                var_v = (weight * (v - mean_v) ** 2).sum()
                cov = (weight * (u - mean_u) * (v - mean_v)).sum()
                scores.append(
                    (2 * mean_u * mean_v + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mean_u**2 + mean_v**2 + 0.01**2) * (var_u + var_v + 0.03**2))
                )
    return float(np.mean(scores))


def test_ssim_equals_the_sum_over_windows_written_out() -> None:
    y = pictures(2, 3, 13, 15)
    x = (y + 0.2 * (pictures(2, 3, 13, 15, seed=1) - 0.5)).clamp(0, 1)
    expected = [
        slow_ssim(a, b) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    torch.testing.assert_close(ssim(x, y), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ssim(y, y), torch.ones(2))
