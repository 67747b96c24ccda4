"""Palettes of few values."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.backends.coreml.palettes import palette


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_is_nearer_than_even_steps_and_indices_name_the_nearest_value(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 9, 3)).astype(np.float32) ** 3
    values, indices = palette(weight, bits)
    assert values.shape == (2**bits,)
    assert values.dtype == weight.dtype
    assert indices.shape == weight.shape
    distances = np.abs(weight[..., None] - values)
    np.testing.assert_allclose(np.abs(values[indices] - weight), distances.min(-1), atol=5e-3)
    even = np.linspace(weight.min(), weight.max(), 2**bits)
    coarse = np.abs(weight[..., None] - even).min(-1)
    assert np.square(values[indices] - weight).sum() < np.square(coarse).sum()


def test_fewer_different_weights_than_values_are_kept_as_they_are() -> None:
    weight = np.repeat(np.array([-1.0, 0.0, 2.0], np.float32), 50)
    values, indices = palette(weight, 4)
    np.testing.assert_array_equal(values[indices], weight)
