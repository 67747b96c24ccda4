from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.parity.half_audit import Finding, HalfAudit, audit_half
from edgekit.program.program import Program
from edgekit.zoo.layers import ChannelLayerNorm, ChannelRMSNorm, ShuffleUpsampler

Programs = Callable[..., Program]


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Tensor:
        return self.function(*x)


@pytest.fixture(scope="module")
def audit(program_of: Programs) -> Callable[..., HalfAudit]:
    def audit(
        module: nn.Module | Callable[..., Tensor], *inputs: Tensor, core_aten: bool = False
    ) -> HalfAudit:
        module = module if isinstance(module, nn.Module) else Apply(module)
        program = program_of(module, *inputs, core_aten=core_aten)
        return audit_half(program, {f"in{i}": value.numpy() for i, value in enumerate(inputs)})

    return audit


Audit = Callable[..., HalfAudit]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def only(audit: HalfAudit, kind: str) -> Finding:
    (found,) = [finding for finding in audit.findings if finding.hazard.kind == kind]
    return found


@pytest.mark.parametrize("core_aten", [False, True])
def test_an_ordinary_network_has_no_finding(audit: Audit, core_aten: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.PixelShuffle(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),
        nn.Softmax(-1),
    )
    found = audit(network, normal(1, 3, 8, 8), core_aten=core_aten)
    assert found.findings == ()
    assert not found.breaks
    assert found.table() == "No hazard found in half precision on this input."


def test_a_video_block_with_sound_norms_has_no_finding(audit: Audit) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(
        ChannelRMSNorm(1e-5), ChannelLayerNorm(4), ShuffleUpsampler(4, 2, drop_lead=True)
    )
    assert audit(block, normal(1, 4, 3, 4, 4)).findings == ()


def test_an_epsilon_of_1e_8_is_named_with_its_value_and_line(audit: Audit) -> None:
    found = only(audit(nn.Sequential(ChannelRMSNorm(1e-8)), normal(1, 4, 5, 5)), "epsilon")
    assert found.place.node == "add"
    assert found.hazard.number == 1e-8
    assert found.hazard.severity == "risks"
    assert "epsilon 1e-08 becomes 0" in found.hazard.why
    assert re.fullmatch(r"edgekit/zoo/layers\.py:\d+ in forward", found.place.source)
    assert found.place.module == "0"


def test_a_lost_epsilon_beside_a_zero_vector_breaks_at_the_reciprocal_root(audit: Audit) -> None:
    x = normal(1, 4, 5, 5)
    x[:, :, 2, 2] = 0.0
    found = audit(ChannelRMSNorm(1e-8), x)
    assert only(found, "epsilon").hazard.severity == "breaks"
    assert found.first_nonfinite is not None
    assert found.first_nonfinite.node == "rsqrt"
    assert "rsqrt (rsqrt at edgekit/zoo/layers.py:" in found.table()


def test_a_sound_epsilon_survives_a_zero_vector(audit: Audit) -> None:
    x = normal(1, 4, 5, 5)
    x[:, :, 2, 2] = 0.0
    found = audit(ChannelRMSNorm(1e-3), x)
    assert found.findings == ()
    assert found.first_nonfinite is None


@pytest.mark.parametrize(
    "module",
    [nn.LayerNorm(6, eps=1e-9), nn.GroupNorm(2, 4, eps=1e-9), nn.BatchNorm2d(4, eps=1e-9)],
)
@pytest.mark.parametrize("core_aten", [False, True])
def test_the_epsilon_of_a_fused_norm_is_found_too(
    audit: Audit, module: nn.Module, core_aten: bool
) -> None:
    found = audit(module, normal(1, 4, 6, 6), core_aten=core_aten)
    assert [finding.hazard.number for finding in found.findings] == [1e-9]


def test_a_norm_of_a_constant_input_breaks_if_its_epsilon_is_lost(audit: Audit) -> None:
    found = audit(nn.LayerNorm(6, eps=1e-9), torch.ones(2, 6))
    assert only(found, "epsilon").hazard.severity == "breaks"


def test_a_default_epsilon_matters_only_where_the_variance_is_as_small(audit: Audit) -> None:
    norm = nn.LayerNorm(6)
    assert audit(norm, normal(2, 6)).findings == ()
    found = only(audit(norm, normal(2, 6) * 1e-3), "epsilon")
    assert "subnormal" in found.hazard.why


def test_the_guard_of_normalize_is_an_epsilon(audit: Audit) -> None:
    found = audit(lambda x: nn.functional.normalize(x, dim=1), torch.zeros(1, 4))
    assert only(found, "epsilon").hazard.number == pytest.approx(1e-12)
    assert found.breaks


def square_by_power(x: Tensor) -> Tensor:
    return x.pow(2)


def square_by_product(x: Tensor) -> Tensor:
    return x * x


@pytest.mark.parametrize("square", [square_by_power, square_by_product, torch.square])
def test_a_square_of_1000_overflows_and_is_named(
    audit: Audit, square: Callable[[Tensor], Tensor]
) -> None:
    found = audit(square, torch.full((2, 3), 1000.0))
    assert only(found, "square").hazard.number == 1000.0
    assert only(found, "square").hazard.severity == "breaks"
    assert found.first_nonfinite is not None


def test_a_square_of_255_is_sound(audit: Audit) -> None:
    assert audit(square_by_power, torch.full((2, 3), 255.0)).findings == ()


def test_an_overflow_says_how_far_the_values_reach(audit: Audit) -> None:
    found = audit(lambda x: x * 100.0, torch.full((3,), 1000.0))
    assert only(found, "overflow").hazard.number == pytest.approx(1e5)


def test_a_value_that_is_only_moved_is_reported_once(audit: Audit) -> None:
    found = audit(
        lambda x: (x * 100.0).reshape(3, 1).expand(3, 4).chunk(2, 1)[0], torch.full((3,), 1e3)
    )
    assert [finding.place.node for finding in found.findings] == ["mul"]


def test_values_that_all_become_zero_break(audit: Audit) -> None:
    found = audit(lambda x: x * 1e-6 * 1e6, normal(4, 4) * 1e-3)
    assert only(found, "underflow").hazard.severity == "breaks"


def test_small_probabilities_beside_a_large_one_are_no_hazard(audit: Audit) -> None:
    assert audit(lambda x: x.softmax(-1), torch.tensor([[0.0, -30.0, -30.0, -30.0]])).findings == ()


def test_the_same_small_probabilities_are_a_hazard_under_a_logarithm(audit: Audit) -> None:
    found = audit(lambda x: x.softmax(-1).log(), torch.tensor([[0.0, -30.0, -30.0, -30.0]]))
    assert only(found, "underflow").place.op == "softmax"
    assert found.first_nonfinite is not None
    assert found.first_nonfinite.op == "log"


def test_subnormal_values_are_counted(audit: Audit) -> None:
    found = only(audit(lambda x: x * 1e-5, torch.ones(8)), "subnormal")
    assert found.hazard.number == 1.0


def test_partial_sums_that_cancel_in_the_end_are_found(audit: Audit) -> None:
    x = torch.cat([torch.full((1, 100), 1000.0), torch.full((1, 100), -1000.0)], dim=1)
    found = audit(lambda x: x.sum(1), x)
    assert only(found, "sum").hazard.number == pytest.approx(100_000)
    assert found.first_nonfinite is None


def test_a_mean_sums_before_it_divides(audit: Audit) -> None:
    found = audit(lambda x: x.mean((2, 3)), torch.full((1, 2, 10, 10), 1000.0))
    assert only(found, "sum").hazard.number == pytest.approx(100_000)


@pytest.mark.parametrize("core_aten", [False, True])
def test_partial_sums_of_a_convolution_equal_the_slow_reference(
    audit: Audit, core_aten: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 2, 3, bias=False)
    weight = conv.weight.detach()
    weight.sub_(weight.mean((1, 2, 3), keepdim=True)).mul_(10)
    x = 10_000 + 1000 * normal(1, 3, 5, 5)
    reach = 0.0
    for channel in range(2):
        for row in range(3):
            for column in range(3):
                terms = x[0, :, row : row + 3, column : column + 3] * weight[channel]
                reach = max(
                    reach, float(terms.clamp(min=0).sum()), -float(terms.clamp(max=0).sum())
                )
    found = only(audit(conv, x, core_aten=core_aten), "sum")
    assert found.hazard.number == pytest.approx(reach, rel=1e-4)


def test_large_inputs_to_a_fused_norm_are_squared_inside(audit: Audit) -> None:
    found = only(audit(nn.LayerNorm(6), normal(2, 6) * 1000), "square")
    assert found.hazard.severity == "risks"


def test_an_exponential_inside_mish_is_found(audit: Audit) -> None:
    assert only(audit(nn.Mish(), torch.full((2,), 20.0)), "exponent").hazard.number == 20.0


def test_a_mask_constant_beyond_half_is_found(audit: Audit) -> None:
    def masked(x: Tensor) -> Tensor:
        return x.masked_fill(x > 0, -1e9).softmax(-1)

    kinds = {finding.hazard.kind for finding in audit(masked, normal(2, 8)).findings}
    assert "constant" in kinds


def test_an_explicit_cast_to_single_precision_is_reported(audit: Audit) -> None:
    found = only(audit(lambda x: x.half().float() + 1, normal(3)), "cast")
    assert found.hazard.number == 32


def test_positions_beyond_2048_are_not_exact_in_half(audit: Audit) -> None:
    found = audit(lambda x: x + torch.arange(5000).float(), torch.zeros(5000))
    assert 4999 in [f.hazard.number for f in found.findings if f.hazard.kind == "cast"]


def test_a_weight_beyond_half_is_named(audit: Audit) -> None:
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, 1e5)
    found = only(audit(linear, torch.zeros(1, 2)), "constant")
    assert found.place.op == "weight"
    assert found.hazard.severity == "breaks"


def test_operators_with_several_results_run(audit: Audit) -> None:
    assert audit(lambda x: x.max(1).values + x.topk(2, 1).values[:, 0], normal(3, 4)).findings == ()


def test_what_is_infinite_in_single_precision_already_is_not_blamed_on_half(audit: Audit) -> None:
    found = audit(lambda x: x.log().clamp(min=-5.0), torch.tensor([0.0, 1.0]))
    assert found.findings == ()
    assert found.first_nonfinite is None


def test_json_is_strict_and_ranks_nothing_out(audit: Audit) -> None:
    x = normal(1, 4, 5, 5) * 1000
    x[:, :, 0, 0] = 0.0
    data = json.loads(json.dumps(audit(ChannelRMSNorm(1e-8), x).to_json(), allow_nan=False))
    assert data["breaks"] is True
    assert {finding["kind"] for finding in data["findings"]} >= {"square", "epsilon"}
    assert data["first_nonfinite"]["op"] == "pow"


def test_findings_of_one_kind_on_one_line_share_a_row_of_the_table(audit: Audit) -> None:
    norms = nn.Sequential(*(ChannelRMSNorm(1e-8) for _ in range(30)))
    found = audit(norms, normal(1, 4, 5, 5))
    assert len(found.findings) == 30
    assert found.table().splitlines()[1].split()[:3] == ["risks", "add", "(30"]
    assert len(found.table().splitlines()) == 2


def test_the_table_shows_what_breaks_before_what_risks(audit: Audit) -> None:
    table = audit(lambda x: x.mean() + (x * 100), torch.full((100,), 1000.0)).table().splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["breaks", "risks"]
