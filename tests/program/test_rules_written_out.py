from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rewritten import Edited, Written
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.program.rules.half_safe_norm import HalfSafeRMSNorm
from edgekit.program.rules.written_out import (
    WrittenBounds,
    WrittenPoolStride,
    WrittenRMSNorm,
    WrittenTanhGelu,
)


@pytest.mark.parametrize("shape", [(8,), (3, 8)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-8, 1e-3])
def test_a_root_mean_square_norm_is_written_out_exactly(
    shape: tuple[int, ...], affine: bool, eps: float | None
) -> None:
    torch.manual_seed(0)
    norm = nn.RMSNorm(shape, eps=eps, elementwise_affine=affine)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
    edited = Edited(norm, [torch.randn(2, 3, 8)], WrittenRMSNorm())
    edited.assert_equal(1e-5)
    assert "rms_norm" not in edited.operators


def test_what_is_written_out_is_made_safe_for_half_precision() -> None:
    edited = Edited(
        nn.RMSNorm(8, eps=1e-8), [torch.zeros(2, 3, 8)], WrittenRMSNorm(), HalfSafeRMSNorm()
    )
    edited.assert_equal(1e-5)
    assert "amax" in edited.operators


def test_only_the_tanh_form_of_gelu_is_written_out() -> None:
    x = torch.linspace(-6, 6, 97)
    tanh = Edited(nn.GELU("tanh"), [x], WrittenTanhGelu())
    tanh.assert_equal(1e-5)
    assert "gelu" not in tanh.operators
    exact = Edited(Written(lambda x: F.gelu(x)), [x], WrittenTanhGelu())
    assert "gelu" in exact.operators


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_pooling_stride_that_is_left_out_is_the_kernel(rank: int) -> None:
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[rank]
    x = torch.randn(1, 2, *(7, 6, 5)[:rank])
    plain = Edited(Written(lambda x: pool(x, 2)), [x], WrittenPoolStride())
    plain.assert_equal(0)
    assert len(plain.decisions) == 1
    odd = Edited(Written(lambda x: pool(x, 2, padding=1, ceil_mode=True)), [x], WrittenPoolStride())
    odd.assert_equal(0)
    given = Edited(Written(lambda x: pool(x, 2, 1)), [x], WrittenPoolStride())
    assert not given.decisions


def test_whole_bounds_of_a_hardtanh_become_fractions() -> None:
    x = torch.linspace(-12, 12, 49)
    whole = Edited(nn.Hardtanh(-7, 8), [x], WrittenBounds())
    whole.assert_equal(0)
    (node,) = whole.nodes
    assert [type(bound) for bound in node.args[1:]] == [float, float]
    assert not Edited(nn.Hardtanh(-7.0, 8.0), [x], WrittenBounds()).decisions


@pytest.mark.parametrize("clamp", [torch.clamp_min, torch.clamp_max])
def test_a_whole_bound_of_fractions_becomes_a_fraction_and_one_of_integers_stays(
    clamp: Callable[[Tensor, float], Tensor],
) -> None:
    x = torch.linspace(-12, 12, 49)
    whole = Edited(Written(lambda x: clamp(x, 3)), [x], WrittenBounds())
    whole.assert_equal(0)
    (node,) = whole.nodes
    assert type(node.args[1]) is float
    assert not Edited(Written(lambda x: clamp(x, 3.0)), [x], WrittenBounds()).decisions
    assert not Edited(Written(lambda x: clamp(x, 3)), [x.int()], WrittenBounds()).decisions
