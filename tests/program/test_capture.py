from __future__ import annotations

import traceback

import pytest
import torch
from rewritten import Written, operators, run
from torch import Tensor, nn

from edgekit.contract import TensorSpec
from edgekit.errors import ConversionError
from edgekit.program.capture import capture

X = torch.linspace(-1, 1, 12).view(1, 3, 4)


def branching(x: Tensor) -> Tensor:
    return x + 1 if x[0, 0, 0] < 0 else x - 1


def test_names_and_specs_come_from_the_graph_where_none_are_given() -> None:
    captured = capture(Written(lambda x: (x.relu(), x.sum(-1).to(torch.int32))), (X,))
    program = captured.program
    assert captured.method == "torch.export"
    assert [spec.shape for spec in program.inputs] == [(1, 3, 4)]
    assert [(spec.name, spec.shape, spec.dtype) for spec in program.outputs] == [
        ("output_0", (1, 3, 4), "float32"),
        ("output_1", (1, 3), "int32"),
    ]


def test_a_single_output_is_called_output() -> None:
    assert [spec.name for spec in capture(nn.ReLU(), (X,)).program.outputs] == ["output"]


def test_given_specs_are_kept_with_their_ranges() -> None:
    inputs = (TensorSpec("latent", (1, 3, 4), axes="NCW"),)
    outputs = (TensorSpec("video", (1, 3, 4), low=0.0, high=1.0),)
    program = capture(nn.Sigmoid(), (X,), inputs, outputs).program
    assert (program.inputs, program.outputs) == (inputs, outputs)


def test_a_module_is_captured_in_eval_mode() -> None:
    module = nn.Sequential(nn.Dropout(0.9)).train()
    program = capture(module, (X,)).program
    torch.testing.assert_close(run(program, X)[0], X)


def test_a_branch_on_values_falls_back_to_a_trace_and_says_so() -> None:
    captured = capture(Written(branching), (X,))
    assert captured.method.startswith("trace (branches fixed as for the example input")
    assert "data-dependent" in captured.method
    torch.testing.assert_close(run(captured.program, -X)[0], -X + 1)
    assert operators(captured.program) == ["add"]


def test_a_forward_that_cannot_run_is_told_once_with_its_module_and_shapes() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 5, 3))
    with pytest.raises(ConversionError) as caught:
        capture(net, (X,))
    said = str(caught.value)
    assert said.startswith(
        "Sequential fails on its example inputs (1x3x4 float32): module '1' (Conv2d) raised RuntimeError: "
    )
    assert said.count("to have 5 channels") == 1
    assert "torch.export" not in said


def test_nothing_is_printed_of_a_graph_that_a_trace_replaces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    capture(Written(branching), (X,))
    assert capsys.readouterr() == ("", "")


def test_a_traceback_shows_the_graph_that_torch_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConversionError) as caught:
        capture(Written(lambda x: branching(x) @ torch.ones(7)), (X,))
    assert capsys.readouterr() == ("", "")
    assert "def forward(" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("extra", [3, "text", None])
def test_a_result_that_is_no_tensor_is_named(extra: object) -> None:
    with pytest.raises(ConversionError, match=r"'output_1' is .*, not a tensor"):
        capture(Written(lambda x: (x + 1, extra)), (X,))


def test_a_result_that_is_no_tensor_is_named_where_outputs_are_declared_too() -> None:
    outputs = (TensorSpec("a", (1, 3, 4)), TensorSpec("b", (1, 3, 4)))
    with pytest.raises(ConversionError, match=r"'b' is .*, not a tensor"):
        capture(Written(lambda x: (x + 1, 3)), (X,), outputs=outputs)


@pytest.mark.parametrize("declared", [1, 3])
def test_another_number_of_outputs_than_declared_is_an_error(declared: int) -> None:
    outputs = tuple(TensorSpec(f"out{index}", (1, 3, 4)) for index in range(declared))
    with pytest.raises(ConversionError, match=f"returns 2 tensors but {declared} outputs"):
        capture(Written(lambda x: (x + 1, x * 2)), (X,), outputs=outputs)


def test_a_result_whose_size_depends_on_values_is_named() -> None:
    with pytest.raises(ConversionError, match="size of 'output' depends on values"):
        capture(Written(lambda x: x[x > 0]), (X,))
