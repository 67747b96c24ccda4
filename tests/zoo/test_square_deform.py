from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from edgekit.plan.memory import MemoryModel, timeline
from edgekit.plan.network import network_of
from edgekit.program.capture import capture
from edgekit.zoo.square_deform import SquareDeformConv, square_depthwise


def value(x: Tensor, y: int, column: int) -> Tensor:
    """Of all channels; 0 outside."""
    inside = 0 <= y < x.shape[1] and 0 <= column < x.shape[2]
    return x[:, y, column] if inside else torch.zeros(x.shape[0], dtype=x.dtype)


def slow_reference(x: Tensor, dilation: Tensor, weight: Tensor) -> Tensor:
    """One pixel and one tap at a time."""
    result = torch.zeros_like(x)
    for image in range(x.shape[0]):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                s = dilation[image, 0, row, column].item()
                for tap in range(9):
                    y, z = row + s * (tap // 3 - 1), column + s * (tap % 3 - 1)
                    top, left = math.floor(y), math.floor(z)
                    down, right = y - top, z - left
                    seen = (
                        value(x[image], top, left) * (1 - down) * (1 - right)
                        + value(x[image], top, left + 1) * (1 - down) * right
                        + value(x[image], top + 1, left) * down * (1 - right)
                        + value(x[image], top + 1, left + 1) * down * right
                    )
                    result[image, :, row, column] += seen * weight[:, 0, tap // 3, tap % 3]
    return result


def test_a_large_map_in_half_precision_is_sampled_where_a_small_one_is() -> None:
    x = torch.arange(600.0).remainder(200).expand(1, 1, 1, 600).bfloat16()
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)
    weight[..., 1, 2] = 1
    made = square_depthwise(x, torch.full((1, 1, 1, 600), 2.0).bfloat16(), weight, whole=True)
    torch.testing.assert_close(made[..., :-2], x[..., 2:], rtol=0, atol=0)


def test_a_small_map_is_not_held_many_times_as_large_by_the_zeros_around_it() -> None:
    module = SquareDeformConv(64, 8, whole_offsets=False)
    network = network_of(capture(module.eval(), (torch.randn(1, 64, 8, 8),)).program)
    largest = max(count for _, _, count in timeline(network, MemoryModel()).alive_at_peak)
    assert largest == 4 * 64 * 10 * 10


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 2),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 1000),
    whole=st.booleans(),
)
def test_a_dilation_per_pixel_samples_between_pixels_and_zeros_outside(
    n: int, channels: int, height: int, width: int, seed: int, whole: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)
    s = torch.rand(n, 1, height, width, generator=generator, dtype=torch.float64) * 15 - 7
    s[0, 0, 0, 0] = (-7.0, 8.0, 0.0, 1.0)[seed % 4]
    s = s.round() if whole else s
    weight = torch.randn(channels, 1, 3, 3, generator=generator, dtype=torch.float64)
    mine = square_depthwise(x, s, weight, whole=whole)
    torch.testing.assert_close(mine, slow_reference(x, s, weight), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dilation", [1, 2, 5, 8])
@pytest.mark.parametrize("whole", [True, False])
def test_one_whole_dilation_everywhere_is_a_dilated_convolution(dilation: int, whole: bool) -> None:
    x, weight = torch.randn(2, 4, 9, 11), torch.randn(4, 1, 3, 3)
    s = torch.full((2, 1, 9, 11), float(dilation))
    expected = F.conv2d(x, weight, padding=dilation, dilation=dilation, groups=4)
    torch.testing.assert_close(square_depthwise(x, s, weight, whole=whole), expected)


def test_gradients_are_those_of_the_interpolation() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    s = (torch.rand(1, 1, 3, 4, dtype=torch.float64) * 0.8 + 1.1).requires_grad_()
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, c: square_depthwise(a, b, c, whole=False), (x, s, weight)
    )


def test_a_new_layer_is_an_ordinary_convolution() -> None:
    layer = SquareDeformConv(4, 6, whole_offsets=False)
    x = torch.randn(1, 4, 7, 5)
    depthwise = F.conv2d(x, layer.conv.weight, padding=1, groups=4)
    torch.testing.assert_close(layer(x), layer.conv_channel(depthwise))


def test_dilations_stay_within_what_a_buffer_holds() -> None:
    layer = SquareDeformConv(1, 1, whole_offsets=False)
    torch.nn.init.constant_(layer.conv_scale.weight, 100.0)
    x = torch.tensor([[[[-1.0, 0.0, 1.0]]]])
    assert layer.bound(layer.conv_scale(x)).flatten().tolist() == [-7.0, 1.0, 8.0]


def test_whole_offsets_are_rounded_and_pass_their_gradient_on() -> None:
    layer = SquareDeformConv(2, 3, whole_offsets=True).train()
    torch.nn.init.normal_(layer.conv_scale.weight)
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    scale = layer.conv_scale(x)
    bounded = layer.bound(scale)
    assert torch.equal(bounded, scale.clamp(-7, 8).round())
    (slope,) = torch.autograd.grad(bounded.sum(), scale)
    assert torch.equal(slope, ((scale > -7) & (scale < 8)).float())
    layer(x).sum().backward()
    assert torch.isfinite(layer.conv.weight.grad).all()
    torch.testing.assert_close(layer.eval()(x), layer.train()(x))
