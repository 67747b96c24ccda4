"""Every index map against the whole operator: any tile of any size equals that part of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network, boxes, network_of
from edgekit.plan.region import Region, elements, lengths
from edgekit.plan.tape import computed_in_boxes
from edgekit.program.capture import capture


class Function(nn.Module):
    def __init__(self, function: Any, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.function = function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*self.parts, *x)


def planned(module: nn.Module, *x: Tensor) -> Network:
    torch.manual_seed(0)
    return network_of(capture(module.eval(), x).program)


def tile_against_whole(
    network: Network, module: nn.Module, x: Tensor, region: Region
) -> tuple[Tensor, Tensor]:
    (result,) = network.outputs
    found = boxes(network, network.inputs, {result: region})
    part = computed_in_boxes(found, network.edit, {network.inputs[0]: x}, result, region)
    expected = module(x)[tuple(slice(start, stop) for start, stop in region)]
    return part, expected


@st.composite
def spans(draw: st.DrawFn, size: int) -> tuple[int, int]:
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))


def check(
    data: st.DataObject, module: nn.Module, x: Tensor, dims: tuple[int, ...] = (2, 3)
) -> Network:
    torch.manual_seed(1)
    network = planned(module, x)
    (result,) = network.outputs
    sizes = shape(result)
    for _ in range(4):
        region = tuple(
            data.draw(spans(size)) if dim in dims else (0, size) for dim, size in enumerate(sizes)
        )
        part, expected = tile_against_whole(network, module, x, region)
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)
    return network


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(), kernel=st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 3),
    dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]), height=st.integers(9, 16),
    width=st.integers(9, 16),
)  # fmt: skip
def test_a_tile_of_two_convolutions_is_that_part_of_the_whole(
    data: st.DataObject, kernel: int, stride: int, padding: int, dilation: int, groups: int,
    height: int, width: int,
) -> None:  # fmt: skip
    first = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups)
    module = Function(lambda a, b, x: b(F.relu(a(x))), first, nn.Conv2d(4, 2, 3, padding=1))
    check(data, module, torch.randn(1, 2, height, width))


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(), kernel=st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 2),
    extra=st.integers(0, 2), dilation=st.integers(1, 2), size=st.integers(4, 8),
)  # fmt: skip
def test_a_tile_of_a_transposed_convolution_is_that_part_of_the_whole(
    data: st.DataObject, kernel: int, stride: int, padding: int, extra: int, dilation: int, size: int
) -> None:  # fmt: skip
    padding, extra = min(padding, kernel - 1), min(extra, max(stride, dilation) - 1, stride - 1)
    module = nn.ConvTranspose2d(2, 3, kernel, stride, padding, extra, dilation=dilation)
    check(data, module, torch.randn(1, 2, size, size + 1))


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(), kind=st.sampled_from(["max", "avg", "counted"]), kernel=st.integers(1, 4),
    stride=st.integers(1, 4), padding=st.integers(0, 2), ceil=st.booleans(), size=st.integers(6, 13),
)  # fmt: skip
def test_a_tile_of_a_pooled_image_is_that_part_of_the_whole(
    data: st.DataObject, kind: str, kernel: int, stride: int, padding: int, ceil: bool, size: int
) -> None:
    padding = min(padding, kernel // 2)
    pool = (
        nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        if kind == "max"
        else nn.AvgPool2d(kernel, stride, padding, ceil, kind == "counted")
    )
    module = Function(lambda a, p, x: p(a(x)), nn.Conv2d(2, 2, 3, padding=1), pool)
    check(data, module, torch.randn(1, 2, size, size + 2))


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(), mode=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    factor=st.integers(1, 4), size=st.integers(3, 8),
)  # fmt: skip
def test_a_tile_of_a_resized_image_is_that_part_of_the_whole(
    data: st.DataObject, mode: str, factor: int, size: int
) -> None:
    module = Function(
        lambda c, x: c(F.interpolate(x, scale_factor=factor, mode=mode)),
        nn.Conv2d(2, 2, 3, padding=1),
    )
    check(data, module, torch.randn(1, 2, size, size + 1))


@settings(deadline=None, max_examples=15)
@given(data=st.data(), factor=st.integers(2, 3), size=st.integers(2, 5))
def test_tiles_of_shuffled_and_unshuffled_pixels_are_those_parts_of_the_whole(
    data: st.DataObject, factor: int, size: int
) -> None:
    x = torch.randn(1, 2 * factor**2, size * factor, size * factor)
    module = Function(
        lambda c, x: F.pixel_unshuffle(c(F.pixel_shuffle(x, factor)), factor),
        nn.Conv2d(2, 2, 3, padding=1),
    )
    check(data, module, x)


def shuffled_by_hand(x: Tensor, r: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c // (r * r), r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (r * r), h * r, w * r)


@settings(deadline=None, max_examples=15)
@given(data=st.data(), factor=st.integers(2, 3), size=st.integers(2, 5))
def test_a_shuffle_spelt_with_reshapes_is_tiled_too(
    data: st.DataObject, factor: int, size: int
) -> None:
    x = torch.randn(1, 2 * factor**2, size, size + 1)
    module = Function(lambda c, x: c(shuffled_by_hand(x, factor)), nn.Conv2d(2, 2, 3, padding=1))
    network = check(data, module, x)
    (result,) = network.outputs
    region = ((0, 1), (0, 2), (0, factor), (0, factor))
    found = boxes(network, network.inputs, {result: region})
    assert lengths(found.read[network.inputs[0]])[2:] == (2, 2)


@settings(deadline=None, max_examples=30)
@given(
    data=st.data(), mode=st.sampled_from(["constant", "reflect", "replicate"]),
    pads=st.tuples(*[st.integers(0, 3)] * 4), size=st.integers(5, 9),
)  # fmt: skip
def test_a_tile_of_a_padded_image_is_that_part_of_the_whole(
    data: st.DataObject, mode: str, pads: tuple[int, ...], size: int
) -> None:
    module = Function(lambda c, x: c(F.pad(c(x), pads, mode=mode)), nn.Conv2d(2, 2, 3, padding=1))
    check(data, module, torch.randn(1, 2, size, size + 1))


@settings(deadline=None, max_examples=15)
@given(data=st.data(), size=st.integers(6, 10), step=st.integers(1, 3))
def test_tiles_of_joined_and_sliced_images_are_those_parts_of_the_whole(
    data: st.DataObject, size: int, step: int
) -> None:
    def forward(c: nn.Module, x: Tensor) -> Tensor:
        y = torch.cat([c(x), x[:, :, 1:4], c(x).flip(1)], 2)
        return c(torch.cat([y, y[:, :, :, ::step]], 3)[:, :, 1:])

    check(data, Function(forward, nn.Conv2d(2, 2, 3, padding=1)), torch.randn(1, 2, size, size))


@settings(deadline=None, max_examples=10)
@given(data=st.data(), windows=st.integers(2, 3))
def test_window_attention_is_tiled_by_rows_of_windows(data: st.DataObject, windows: int) -> None:
    size, channels = 2, 4

    def forward(qkv: nn.Module, project: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        shortcut = x
        x = norm(x).view(n, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, size * size, c)
        q, k, v = qkv(x).reshape(-1, size * size, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, size * size, c)
        x = project(x).view(n, h // size, w // size, size, size, c).permute(0, 1, 3, 2, 4, 5)
        return shortcut + x.reshape(n, h, w, c)

    module = Function(
        forward,
        nn.Linear(channels, 3 * channels),
        nn.Linear(channels, channels),
        nn.LayerNorm(channels),
    )
    x = torch.randn(1, windows * size, windows * size, channels)
    network = check(data, module, x, dims=(1, 2))
    (result,) = network.outputs
    region = ((0, 1), (0, size), (0, windows * size), (0, channels))
    found = boxes(network, network.inputs, {result: region})
    assert lengths(found.read[network.inputs[0]])[1] == size


@pytest.mark.parametrize(
    "head",
    [
        nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool2d(1),
        Function(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
        Function(lambda x: torch.roll(x, 2, 2)),
        Function(lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True)),
        nn.InstanceNorm2d(4),
        Function(lambda x: x.flip(2)),
    ],
)
def test_operators_over_the_whole_image_are_computed_whole_and_stay_right(head: nn.Module) -> None:
    module = Function(lambda c, h, x: h(c(x)), nn.Conv2d(2, 4, 3, padding=1), head)
    x = torch.randn(1, 2, 8, 8)
    network = planned(module, x)
    sizes = shape(network.outputs[0])
    region = tuple(
        (0, size) if dim < 2 else (0, max(1, size // 2)) for dim, size in enumerate(sizes)
    )
    part, expected = tile_against_whole(network, module, x, region)
    torch.testing.assert_close(part, expected)
    convolved = network.nodes[1]
    found = boxes(network, network.inputs, {network.outputs[0]: region})
    assert elements(found.computed[convolved]) == 4 * 64


@settings(deadline=None, max_examples=15)
@given(data=st.data(), frames=st.integers(3, 6))
def test_tiles_in_time_and_space_of_a_video_network_are_those_parts_of_the_whole(
    data: st.DataObject, frames: int
) -> None:
    def forward(c: nn.Module, x: Tensor) -> Tensor:
        x = c(F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"))
        n = x.shape[0]
        x = x.transpose(1, 2).flatten(0, 1)
        x = F.pixel_shuffle(x, 2)
        return x.unflatten(0, (n, -1)).transpose(1, 2)[:, :, 1:]

    module = Function(forward, nn.Conv3d(2, 8, 3, padding=(0, 1, 1)))
    check(data, module, torch.randn(1, 2, frames, 4, 5), dims=(2, 3, 4))
