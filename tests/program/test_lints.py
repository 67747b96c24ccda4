from __future__ import annotations

import torch
from rewritten import Written, program_of
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.program.lints import Finding, lint
from edgekit.target import Lints, find_target

NOTHING = Lints(max_rank=5, refused={}, warned={})
X = torch.randn(1, 4, 3, 5, 5)


def found(forward: object, lints: Lints, *unsupported: str) -> list[Finding]:
    return lint(program_of(forward, X), lints, unsupported)


def test_a_value_above_the_rank_of_the_target_is_an_error_with_its_line() -> None:
    def forward(x: Tensor) -> Tensor:
        return x.view(1, 2, 2, 3, 5, 5).permute(0, 2, 1, 3, 4, 5).sum(1)

    findings = found(forward, NOTHING)
    assert {finding.level for finding in findings} == {"error"}
    assert "gives rank 6; the target holds 5" in findings[0].message
    assert all("test_lints.py:" in finding.source for finding in findings)


def test_a_refused_operator_is_an_error_with_the_reason() -> None:
    lints = Lints(5, {"aten.relu.default": "there is none"}, {})
    (finding,) = found(nn.ReLU(), lints)
    assert (finding.level, finding.message) == ("error", "aten.relu.default: there is none")


def test_a_warned_operator_is_a_warning() -> None:
    (finding,) = found(nn.ReLU(), Lints(5, {}, {"aten.relu.default": "slow"}))
    assert (finding.level, finding.message) == ("warning", "aten.relu.default: slow")


def test_an_operator_that_the_converter_lacks_is_an_error_even_if_only_warned() -> None:
    lints = Lints(5, {}, {"aten.relu.default": "slow"})
    (finding,) = found(nn.ReLU(), lints, "aten.relu.default")
    assert finding.level == "error"
    assert "no form" in finding.message


def test_a_size_that_depends_on_values_is_an_error() -> None:
    findings = found(Written(lambda x: x[x > 0].relu().sum()), NOTHING)
    assert any("depends on values" in finding.message for finding in findings)


def test_a_clean_program_has_no_finding() -> None:
    assert found(nn.Conv3d(4, 4, 1), NOTHING) == []


def test_core_ml_refuses_replication_in_time_and_warns_of_conv3d() -> None:
    lints = find_target("coreml").lints
    conv = nn.Conv3d(4, 4, 3)
    module = Written(lambda x: conv(F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")), conv=conv)
    levels = {finding.message.split(":")[0]: finding.level for finding in found(module, lints)}
    assert levels["aten.conv3d.default"] == "warning"
