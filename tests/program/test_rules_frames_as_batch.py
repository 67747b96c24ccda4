from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from rewritten import Edited, Written, operators, program_of, run
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.program.editing import shape_of
from edgekit.program.rule import rewrite
from edgekit.program.rules.frames_as_batch import FramesAsBatch

CHANNELS = 4
cheap = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes, an example takes seconds
)
three = st.tuples(*[st.integers(1, 3)] * 3)
two_at_most = st.tuples(*[st.integers(1, 2)] * 3)

Geometry = dict[str, Any]
geometries = st.fixed_dictionaries(
    {
        "kernel_size": three,
        "stride": two_at_most,
        "dilation": two_at_most,
        "padding": st.tuples(*[st.integers(0, 2)] * 3),
        "groups": st.sampled_from([1, 2, CHANNELS]),
        "bias": st.booleans(),
        "out_channels": st.sampled_from([CHANNELS, 2 * CHANNELS]),
    }
)


def video(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def folded(forward: Any, *inputs: Tensor, **layers: nn.Module) -> Edited:
    module = Written(forward, **layers).double()
    return Edited(module, inputs, FramesAsBatch())


def fits(geometry: Geometry, size: tuple[int, ...]) -> bool:
    parts = zip(
        size,
        geometry["padding"],
        geometry["dilation"],
        geometry["kernel_size"],
        strict=True,
    )
    return all(s + 2 * p >= d * (k - 1) + 1 for s, p, d, k in parts)


class Many(nn.Module):
    """Convolutions of the same input, so that one capture tries several geometries."""

    def __init__(self, geometries: list[Geometry]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv3d(CHANNELS, **geometry) for geometry in geometries)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(conv(x) for conv in self.convs)


@cheap
@given(
    st.tuples(st.integers(1, 5), st.integers(3, 6), st.integers(3, 6)),
    st.lists(geometries, min_size=6, max_size=10),
    st.integers(0, 99),
)
def test_a_conv3d_of_any_geometry_equals_its_2d_convolutions(
    size: tuple[int, int, int], geometries: list[Geometry], seed: int
) -> None:
    possible = [geometry for geometry in geometries if fits(geometry, size)]
    if not possible:
        return
    torch.manual_seed(seed)
    edited = Edited(Many(possible).double(), [video(1, CHANNELS, *size)], FramesAsBatch())
    edited.assert_equal()
    assert "conv3d" not in edited.operators
    assert [decision.applied for decision in edited.decisions] == [True] * len(possible)


@pytest.mark.parametrize(
    ("layer", "convolutions"),
    [
        (nn.Conv3d(4, 6, 3), 1),
        (nn.Conv3d(4, 4, 3, groups=4), 3),
        (nn.Conv3d(4, 4, (1, 3, 3), groups=4), 1),
        (nn.Conv3d(4, 6, (3, 1, 1), padding="same"), 1),
        (nn.Conv3d(4, 6, 3, padding="same", dilation=(1, 2, 1)), 1),
        (nn.Conv3d(4, 6, 3, padding="valid"), 1),
        (nn.Conv3d(4, 6, 3, padding=1, padding_mode="circular"), 1),
        (nn.Conv3d(4, 6, 3, padding=1, padding_mode="reflect"), 1),
    ],
)
def test_a_dense_kernel_is_one_convolution_and_a_grouped_one_is_one_per_tap(
    layer: nn.Module, convolutions: int
) -> None:
    edited = folded(lambda x: layer(x), video(1, 4, 4, 5, 6), layer=layer)
    edited.assert_equal()
    assert edited.operators.count("conv2d") == convolutions
    assert edited.decisions[0].applied


def test_every_value_between_two_convolutions_stays_at_rank_4() -> None:
    first, second = nn.Conv3d(4, 6, 3, padding=1), nn.Conv3d(6, 5, 3, padding=1)

    def forward(x: Tensor) -> Tensor:
        h = F.silu(first(x)) * 0.5 + 1
        h = h * torch.rsqrt(h.pow(2).mean(dim=1, keepdim=True) + 1e-8)
        h = h - h.mean(dim=(-1, -2), keepdim=True) + h.amax(dim=2, keepdim=True)
        h = torch.cat([h[:, :, :1], h, h[:, :, -1:]], dim=2)
        h = torch.cat([h[:, :3], h[:, 3:]], dim=-4)
        h = F.pad(h, (1, 0, 2, 1))[:, :, ::2, 1:, :-1].clamp(-1, 1)
        return second(h)

    edited = folded(forward, video(1, 4, 3, 5, 6), first=first, second=second)
    edited.assert_equal()
    ranks = [len(shape_of(node)) for node in edited.nodes if node.target is not torch.ops.aten.permute.default]  # fmt: skip
    assert edited.operators[:1] == ["permute"]
    assert edited.operators[-1:] == ["permute"]
    assert all(rank == 4 for rank in ranks[:-1])
    assert edited.operators.count("permute") == 2


@cheap
@given(st.lists(st.sampled_from([1, 2, 3]), min_size=3, max_size=3), st.integers(1, 3))
@example([1, 1, 1], 2)
@example([2, 1, 1], 3)
def test_nearest_upsampling_by_whole_factors_is_folded(factors: list[int], frames: int) -> None:
    conv = nn.Conv3d(3, 3, 1)

    def forward(x: Tensor) -> Tensor:
        return F.interpolate(conv(x), scale_factor=tuple(float(factor) for factor in factors))

    edited = folded(forward, video(1, 3, frames, 3, 2), conv=conv)
    edited.assert_equal()
    assert "upsample_nearest3d" not in edited.operators


@pytest.mark.parametrize("scale", [(1.0, 2.4, 2.0), (1.5, 2.0, 2.0), (1.0, 2.9, 1.3)])
def test_upsampling_by_other_factors_is_left_alone(scale: tuple[float, ...]) -> None:
    conv = nn.Conv3d(3, 3, 1)
    edited = folded(
        lambda x: F.interpolate(conv(x), scale_factor=scale), video(1, 3, 2, 2, 2), conv=conv
    )
    edited.assert_equal()
    assert "upsample_nearest3d" in edited.operators


def test_an_upsampling_to_a_size_is_folded_too() -> None:
    conv = nn.Conv3d(3, 3, 1)
    edited = folded(
        lambda x: F.interpolate(conv(x), size=(4, 6, 4)), video(1, 3, 2, 2, 2), conv=conv
    )
    edited.assert_equal()
    assert "upsample_nearest3d" not in edited.operators


def test_operators_that_cannot_be_folded_get_their_video_back() -> None:
    first, second = nn.Conv3d(4, 6, 3, padding=1), nn.Conv3d(6, 4, 1)
    norm = nn.LayerNorm(6)
    gate = nn.Parameter(torch.linspace(0, 1, 5 * 6).view(5, 6).double())

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        h = first(x)
        n = norm(h.movedim(1, -1)).movedim(-1, 1)
        low, high = n.chunk(2, dim=1)
        joined = torch.cat([high, low], dim=1) * gate  # a factor of lower rank
        pooled = F.avg_pool3d(F.pad(joined, (0, 0, 0, 0, 1, 1)), (2, 1, 1))
        batch = torch.cat([h, h], dim=0).sum(0, keepdim=True)  # the batch axis is used
        return second(pooled), batch.mean(dim=0), h.mean(dim=(0, 2), keepdim=True)

    edited = folded(forward, video(1, 4, 3, 5, 6), first=first, second=second, norm=norm)
    edited.assert_equal()
    assert "conv3d" not in edited.operators


def test_a_value_that_is_an_output_and_is_used_on_keeps_both_forms() -> None:
    first, second = nn.Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 1)

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        h = first(x)
        return h, second(h.relu()), h.flatten(2).softmax(-1), h, x + h

    edited = folded(forward, video(1, 4, 3, 5, 6), first=first, second=second)
    edited.assert_equal()
    assert "conv3d" not in edited.operators


def test_reductions_keep_their_result_type() -> None:
    conv = nn.Conv3d(3, 3, 1)
    forward = lambda x: conv(x).mean((2,), keepdim=True, dtype=torch.float64)  # noqa: E731
    x = torch.randn(1, 3, 4, 2, 2)
    edited = Edited(Written(forward, conv=conv), [x], FramesAsBatch())
    assert edited.actual[0].dtype == torch.float64
    edited.assert_equal(1e-6)


def test_two_inputs_and_scalar_constants_take_part() -> None:
    conv = nn.Conv3d(4, 4, 1)
    scale = torch.tensor(0.3, dtype=torch.float64)
    per_channel = video(1, 4, 1, 1, 1, seed=2)

    def forward(x: Tensor, y: Tensor) -> Tensor:
        return conv(x * scale + per_channel) - 2 * y

    edited = folded(forward, video(1, 4, 2, 3, 3), video(1, 4, 2, 3, 3, seed=1), conv=conv)
    edited.assert_equal()


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_is_left_alone_with_the_reason(batch: int) -> None:
    conv = nn.Conv3d(3, 3, 3, padding=1)
    edited = folded(lambda x: conv(x).relu(), video(batch, 3, 3, 4, 4), conv=conv)
    (decision,) = edited.decisions
    assert not decision.applied
    assert f"the batch is {batch}" in decision.reason
    assert "conv3d" in edited.operators
    edited.assert_equal()


def test_a_convolution_without_a_batch_axis_is_left_alone_with_the_reason() -> None:
    for channels_out in (1, 5):
        conv = nn.Conv3d(3, channels_out, 3)
        edited = folded(lambda x, conv=conv: conv(x), video(3, 3, 4, 4), conv=conv)
        assert not edited.decisions[0].applied
        assert "no batch axis" in edited.decisions[0].reason
        edited.assert_equal()


def test_a_kernel_that_is_computed_is_left_alone_with_the_reason() -> None:
    conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv3d(3, 4, 3))
    edited = folded(lambda x: conv(x), video(1, 3, 3, 4, 4), conv=conv)
    assert [decision.applied for decision in edited.decisions] == [False]
    assert "computed" in edited.decisions[0].reason
    edited.assert_equal()


def test_a_graph_without_conv3d_is_returned_as_it_is() -> None:
    program = program_of(lambda x: x.relu(), video(1, 3, 2, 4, 4))
    result, decisions = rewrite(program, [FramesAsBatch()])
    assert result is program
    assert decisions == []


def test_a_rewritten_program_keeps_its_contracts_and_computes_the_same() -> None:
    conv = nn.Conv3d(3, 5, 3, padding=1).double()
    x = video(1, 3, 3, 4, 4)
    program = program_of(Written(lambda x: conv(x).tanh(), conv=conv), x)
    result, _ = rewrite(program, [FramesAsBatch()])
    assert (result.inputs, result.outputs) == (program.inputs, program.outputs)
    torch.testing.assert_close(run(result, x), run(program, x), rtol=1e-12, atol=1e-12)
    assert "conv2d" in operators(result)
