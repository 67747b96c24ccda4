"""Networks of two outputs, such as detectors, run by a plan: the outputs are columns of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_detector import SmallDetector
from torch import Tensor, nn

import edgekit
from edgekit import UsageError
from edgekit.plan.joined import divided, joined
from edgekit.plan.plan import read_plan
from edgekit.program.capture import capture


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    torch.manual_seed(3)
    return SmallDetector(8, 3).eval()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))


def test_outputs_that_differ_in_their_last_dimension_become_columns_and_come_back(
    detector: nn.Module, picture: Tensor
) -> None:
    program = capture(detector, (picture,)).program
    single, columns = joined(program)
    assert columns == {"output_0": (0, 4), "output_1": (4, 7)}
    with torch.no_grad():
        wanted = detector(picture)
        (whole,) = single.exported.module()(picture)
        again = divided(single, columns, program.outputs).exported.module()(picture)
    torch.testing.assert_close(whole, torch.cat(wanted, -1), rtol=0, atol=0)
    torch.testing.assert_close(again, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("target", ["onnx", "coreml"])
@pytest.mark.parametrize("one_file", [False, True])
def test_a_detector_keeps_a_budget_and_gives_both_outputs(
    detector: nn.Module, picture: Tensor, tmp_path: Path, target: str, one_file: bool
) -> None:
    whole = edgekit.memory_plan(detector, picture).whole.peak_bytes
    budget = int(0.4 * whole)
    bundle = edgekit.export(
        detector, picture, target=target, precision="fp32", output=tmp_path / "b",
        memory_budget=budget, one_file=one_file, simplify=False,
    )  # fmt: skip
    plan = read_plan(bundle.path)
    assert plan is not None
    assert plan.peak_bytes <= budget
    assert plan.whole_peak_bytes >= whole
    assert edgekit.verify(bundle).passed
    with torch.no_grad():
        wanted = detector(picture)
    for value, expected in zip(edgekit.run(bundle, picture.numpy()), wanted, strict=True):
        np.testing.assert_allclose(value, expected.numpy(), atol=1e-4)
        assert value.flags.c_contiguous
    if one_file and target == "onnx":
        graph = onnx.load(bundle.model_file).graph
        assert [made.name for made in graph.output] == ["output_0", "output_1"]


def test_outputs_that_cannot_stand_side_by_side_are_refused(picture: Tensor) -> None:
    class Uneven(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, x.mean((2, 3))

    with pytest.raises(
        UsageError, match="outputs that differ in their last dimension only; this one has 1 and 2"
    ):
        edgekit.export(Uneven(), picture, tiles="2x2", simplify=False)
