from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.distillation.losses import pyramid_l1, relative_feature_error


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
