"""Calls that real networks make, each tiled in halves: equal to the whole, or computed whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import boxes, network_of
from edgekit.plan.tape import computed_in_boxes
from edgekit.program.capture import capture


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.matrix = nn.Parameter(torch.randn(12, 12))
        self.vector = nn.Parameter(torch.randn(12))
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[call-arg]


IMAGE = (1, 4, 12, 12)
VOLUME = (1, 2, 7, 8, 9)
CALLS = {
    "a norm along channels": (lambda m, x: F.normalize(x, dim=1), IMAGE),
    "a norm that is divided by": (lambda m, x: x / x.norm(dim=1, keepdim=True), IMAGE),
    "circular padding": (lambda m, x: m.conv(F.pad(x, (1, 1, 1, 1), mode="circular")), IMAGE),
    "the largest of the channels": (lambda m, x: x.max(1, keepdim=True)[0] + x, IMAGE),
    "where the largest channel is": (lambda m, x: x.max(1, keepdim=True)[1].float(), IMAGE),
    "the two largest channels": (lambda m, x: x.topk(2, 1)[0], IMAGE),
    "a pool that returns indices": (lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0], IMAGE),
    "mean and variance at once": (
        lambda m, x: torch.var_mean(x, 1, keepdim=True)[1] + x,
        IMAGE,
    ),
    "a scale that is no whole number": (
        lambda m, x: F.interpolate(x, scale_factor=2.05, mode="bilinear"),
        IMAGE,
    ),
    "a constant matrix from the left": (lambda m, x: m.matrix @ x, IMAGE),
    "a product with a vector": (lambda m, x: x.unsqueeze(1) @ m.vector, IMAGE),
    "a kernel made from the input": (
        lambda m, x: F.conv2d(
            x, x.mean((2, 3)).view(4, 1, 1, 1).expand(4, 1, 3, 3), padding=1, groups=4
        ),
        IMAGE,
    ),
    "a norm whose weight is computed": (lambda m, x: F.layer_norm(x, (12,), 1 + m.vector), IMAGE),
    "a convolution without a batch": (lambda m, x: m.conv(x[0])[None], IMAGE),
    "a pool without a batch": (lambda m, x: F.max_pool2d(x[0], 2)[None], IMAGE),
    "a mean without a batch": (lambda m, x: x * F.adaptive_avg_pool2d(x[0], 1)[None], IMAGE),
    "a pool of a volume": (lambda m, x: F.max_pool3d(x, 3, 2, 1, ceil_mode=True), VOLUME),
    "a mean of a volume's borders": (
        lambda m, x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        VOLUME,
    ),
    "a pool with a divisor of its own": (
        lambda m, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
        IMAGE,
    ),
    "a dilated pool": (
        lambda m, x: F.max_pool2d(x, 2, 2, 1, dilation=2, ceil_mode=True),
        IMAGE,
    ),
    "padding that crops": (lambda m, x: F.pad(x, (-1, 2, 3, -2)), IMAGE),
    "grouped queries": (
        lambda m, x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
        IMAGE,
    ),
    "a picture and its transpose": (lambda m, x: x + x.transpose(2, 3), IMAGE),
    "crops of one tensor at two places": (
        lambda m, x: m.conv(x)[..., 1:, :-1] - m.conv(x)[..., :-1, 1:],
        IMAGE,
    ),
    "sampling at given places": (
        lambda m, x: F.grid_sample(x, torch.zeros(1, 12, 12, 2), align_corners=False),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_both_halves_of_a_result_are_those_of_the_whole(name: str) -> None:
    function, sizes = CALLS[name]
    torch.manual_seed(0)
    module, x = Called(function).eval(), torch.randn(sizes)
    with torch.no_grad():
        network = network_of(capture(module, (x,)).program)
        (result,) = network.outputs
        whole = shape(result)
        for half in (0, 1):
            region = tuple(
                (0, size)
                if dim < len(whole) - 2 or size == 1
                else ((0, size // 2) if half == 0 else (size // 2, size))
                for dim, size in enumerate(whole)
            )
            found = boxes(network, network.inputs, {result: region})
            part = computed_in_boxes(found, network.edit, {network.inputs[0]: x}, result, region)
            expected = module(x)[tuple(slice(*span) for span in region)]
            torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)
