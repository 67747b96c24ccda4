"""Half-safe norms, the rank of GroupNorm, BatchNorm folding and reciprocals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rewritten import Edited, Written, highest_rank, operators, program_of, run
from torch import Tensor, nn

from edgekit.parity.half_audit import audit_half
from edgekit.program.rule import rewrite
from edgekit.program.rules.exact_reciprocal import ReciprocalAsDivision
from edgekit.program.rules.fold_batch_norm import FoldBatchNorm
from edgekit.program.rules.group_norm_rank import GroupNormAtRank4
from edgekit.program.rules.half_safe_norm import HalfSafeLayerNorm, HalfSafeRMSNorm
from edgekit.zoo.layers import ChannelRMSNorm

MAGNITUDES = [10.0**power for power in range(-6, 6)]


def magnitudes(*shape: int) -> Tensor:
    """One vector of each magnitude along the batch, and a last one of zeros."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(MAGNITUDES) + 1, *shape, dtype=torch.float64, generator=generator)
    scale = torch.tensor([*MAGNITUDES, 0.0], dtype=torch.float64)
    return x * scale.view(-1, *[1] * len(shape))


def squares_by_product(x: Tensor) -> Tensor:
    return torch.rsqrt((x * x).mean((1, 2), keepdim=True) + 1e-8) * x


def doubled_epsilon(x: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.add(x.pow(2).mean(1, keepdim=True), 1e-6, alpha=2))


@pytest.mark.parametrize("eps", [1e-5, 1e-6, 1e-8, 1e-12])
def test_a_root_mean_square_of_any_magnitude_is_equal(eps: float) -> None:
    edited = Edited(ChannelRMSNorm(eps), [magnitudes(5, 3)], HalfSafeRMSNorm())
    edited.assert_equal()
    assert edited.decisions[0].applied
    assert not edited.actual[0][-1].any()


@pytest.mark.parametrize("form", [squares_by_product, doubled_epsilon])
def test_other_ways_to_write_it_are_equal_too(form: Any) -> None:
    edited = Edited(Written(form), [magnitudes(5, 3)], HalfSafeRMSNorm())
    edited.assert_equal()


def layer_norm(eps: float, affine: bool) -> nn.Module:
    norm = nn.LayerNorm((5, 3), eps=eps, elementwise_affine=affine)
    return _random_affine(norm)


def group_norm(eps: float, affine: bool) -> nn.Module:
    return _random_affine(nn.GroupNorm(2, 4, eps=eps, affine=affine))


def _random_affine(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-6, 1e-12])
@pytest.mark.parametrize(
    ("norm", "shape"), [(layer_norm, (4, 5, 3)), (group_norm, (4, 5, 3)), (group_norm, (4,))]
)
def test_layer_and_group_norms_of_any_magnitude_are_equal(
    norm: Any, shape: tuple[int, ...], eps: float, affine: bool
) -> None:
    edited = Edited(norm(eps, affine), [magnitudes(*shape)], HalfSafeLayerNorm())
    # Subtracting the mean loses digits against the magnitude, in both forms.
    edited.assert_equal(1e-8)
    assert edited.decisions[0].applied
    assert not {"layer_norm", "group_norm"} & set(edited.operators)


def test_an_epsilon_that_half_precision_holds_is_left_alone_with_the_reason() -> None:
    for module in (ChannelRMSNorm(1e-3), nn.LayerNorm(3, eps=1e-3)):
        edited = Edited(module, [torch.randn(1, 4, 3)], HalfSafeRMSNorm(), HalfSafeLayerNorm())
        (decision,) = edited.decisions
        assert not decision.applied
        assert "epsilon 0.001" in decision.reason


def test_a_product_that_is_no_norm_does_not_match() -> None:
    def forward(x: Tensor, y: Tensor) -> Tensor:
        other = y * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-8)
        cube = x * torch.rsqrt(x.pow(3).abs().mean(1, keepdim=True) + 1e-8)
        return other + cube + x * torch.rsqrt(x.pow(2).mean() + 1e-8)

    x, y = torch.rand(1, 4, 3), torch.rand(1, 4, 3)
    assert Edited(Written(forward), [x, y], HalfSafeRMSNorm()).decisions == []


@pytest.mark.parametrize("module", [ChannelRMSNorm(1e-8), nn.LayerNorm(3, eps=1e-8)])
def test_the_rewritten_norm_survives_emulated_half_where_the_written_one_breaks(
    module: nn.Module,
) -> None:
    x = torch.randn(1, 4, 5, 3)
    x[:, :, 0] = 0
    x[:, :, 1] = 3000.0
    x[:, :, 2] *= 3000
    written = program_of(module, x)
    safe, _ = rewrite(written, [HalfSafeRMSNorm(), HalfSafeLayerNorm()])
    inputs = {spec.name: x.numpy() for spec in written.inputs}
    assert audit_half(written, inputs).breaks
    audit = audit_half(safe, inputs)
    assert not audit.breaks, audit.table()
    torch.testing.assert_close(run(safe, x), run(written, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_a_group_norm_of_a_video_runs_at_rank_4(affine: bool) -> None:
    norm = _random_affine(nn.GroupNorm(2, 4, affine=affine))
    x = torch.randn(2, 4, 3, 2, 5, dtype=torch.float64)
    edited = Edited(norm, [x], GroupNormAtRank4())
    edited.assert_equal()
    assert edited.operators == ["reshape", "group_norm", "reshape"]
    picture = Edited(norm, [x[:, :, 0]], GroupNormAtRank4())
    assert picture.decisions == []


def trained(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    norm.running_mean = torch.randn(norm.num_features)
    norm.running_var = torch.rand(norm.num_features) + 0.1
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize(
    ("conv", "norm", "shape"),
    [
        (nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6), (2, 4, 7)),
        (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, groups=4, stride=2, bias=False), nn.BatchNorm2d(4), (2, 4, 5, 5)),
        (nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6, affine=False), (1, 4, 3, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 2, 2), nn.BatchNorm2d(6), (1, 4, 3, 3)),
        (nn.ConvTranspose2d(4, 6, 2, 2, bias=False), nn.BatchNorm2d(6), (1, 4, 3, 3)),
    ],
)
def test_a_batch_norm_disappears_in_the_convolution_before_it(
    conv: nn.Module, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    module = nn.Sequential(conv, trained(norm)).double()
    edited = Edited(module, [torch.randn(shape, dtype=torch.float64)], FoldBatchNorm())
    edited.assert_equal()
    assert len(edited.operators) == 1


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.BatchNorm2d(6)), (1, 4, 3, 3)),
        (nn.Sequential(nn.ConvTranspose1d(4, 6, 2, 2), nn.BatchNorm1d(6)), (1, 4, 3)),
        (nn.Sequential(nn.Conv2d(4, 6, 3, padding="same"), nn.BatchNorm2d(6)), (1, 4, 3, 3)),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), (2, 4, 3, 3)),
        (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), (2, 4)),
    ],
)
def test_a_batch_norm_without_such_a_convolution_is_one_product_and_one_sum(
    module: nn.Sequential, shape: tuple[int, ...]
) -> None:
    trained(module[1])
    edited = Edited(module.double(), [torch.randn(shape, dtype=torch.float64)], FoldBatchNorm())
    edited.assert_equal()
    assert edited.operators[1:] == ["mul", "add"]


def test_a_convolution_with_another_reader_keeps_its_kernel() -> None:
    conv, norm = nn.Conv2d(4, 4, 1), trained(nn.BatchNorm2d(4))

    def forward(x: Tensor) -> Tensor:
        h = conv(x)
        return norm(h) + h

    module = Written(forward, conv=conv, norm=norm).double()
    edited = Edited(module, [torch.randn(1, 4, 3, 3, dtype=torch.float64)], FoldBatchNorm())
    edited.assert_equal()
    assert edited.operators == ["conv2d", "mul", "add", "add"]


def test_a_layer_used_twice_is_folded_for_each_use_alone() -> None:
    conv = nn.Conv2d(4, 4, 1)
    first, second = trained(nn.BatchNorm2d(4)), nn.BatchNorm2d(4)

    def forward(x: Tensor) -> Tensor:
        return second(conv(first(conv(x)).relu()))

    module = Written(forward, conv=conv, first=first, second=second).double()
    edited = Edited(module, [torch.randn(1, 4, 3, 3, dtype=torch.float64)], FoldBatchNorm())
    edited.assert_equal()
    assert edited.operators == ["conv2d", "relu", "conv2d"]


def test_a_bias_that_is_computed_is_not_lost() -> None:
    conv, norm = nn.Conv2d(4, 4, 1), trained(nn.BatchNorm2d(4))

    def forward(x: Tensor) -> Tensor:
        return norm(nn.functional.conv2d(x, conv.weight, x.mean((0, 2, 3))))

    module = Written(forward, conv=conv, norm=norm).double()
    edited = Edited(module, [torch.randn(1, 4, 3, 3, dtype=torch.float64)], FoldBatchNorm())
    edited.assert_equal()


def test_a_reciprocal_is_a_division_by_the_value_itself() -> None:
    x = torch.tensor([[1e-8, -3.0, 1e5]], dtype=torch.float64)
    edited = Edited(Written(lambda x: x.reciprocal()), [x], ReciprocalAsDivision())
    edited.assert_equal(1e-15)
    assert edited.operators == ["div"]


def test_rules_leave_source_lines_and_reasons_behind() -> None:
    from edgekit.program.rules import rules
    from edgekit.program.source import source_line
    from edgekit.zoo.layers import ResidualBlock, SeparableVideoConv

    block = ResidualBlock(4, 6, SeparableVideoConv, rms_eps=1e-8)
    x = torch.randn(1, 4, 3, 5, 5)
    program = program_of(block, x)
    before = {source_line(node) for node in program.exported.graph.nodes}
    result, decisions = rewrite(program, rules(half=True))
    torch.testing.assert_close(run(result, x), run(program, x), rtol=1e-5, atol=1e-5)
    calls = [node for node in result.exported.graph.nodes if node.op == "call_function"]
    assert "conv3d" not in operators(result)
    assert highest_rank(result) <= 5
    assert all(source_line(node) in before for node in calls)
    conv = next(node for node in calls if node.target is torch.ops.aten.conv2d.default)
    assert source_line(conv).startswith("edgekit/zoo/layers.py:")
    assert {decision.rule for decision in decisions} >= {
        "time-padding",
        "frames-as-batch",
        "half-safe-rms-norm",
        "half-safe-layer-norm",
    }
    assert all(decision.source.startswith("edgekit/zoo/layers.py:") for decision in decisions)
    assert all(decision.applied or decision.reason for decision in decisions)
    assert np.isfinite(run(result, x)[0]).all()
