from __future__ import annotations

import pytest
import torch
from rewritten import Written, operators, program_of, run
from torch import Tensor, nn

from edgekit.program.precision import in_half
from edgekit.program.program import Program

X = torch.randn(1, 4, 6, 6)


def values(program: Program) -> dict[str, Tensor]:
    return {
        node.name: node.meta["val"] for node in program.exported.graph.nodes if "val" in node.meta
    }


def test_weights_are_float16_and_the_doors_float32() -> None:
    program = program_of(nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU()), X)
    half = in_half(program)
    constants = [*half.exported.state_dict.values(), *half.exported.constants.values()]
    assert constants
    assert all(value.dtype == torch.float16 for value in constants)
    (result,) = run(half, X)
    assert result.dtype == torch.float32
    assert (half.inputs, half.outputs) == (program.inputs, program.outputs)
    computed = values(half)
    assert computed["conv2d"].dtype == torch.float16
    assert operators(half).count("_to_copy") == 2
    torch.testing.assert_close(result, run(program, X)[0], rtol=1e-2, atol=1e-2)


def test_every_output_and_input_has_its_own_door() -> None:
    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return x + y, x * y, x + y

    half = in_half(program_of(forward, X, X + 1))
    assert [result.dtype for result in run(half, X, X)] == [torch.float32] * 3


def test_an_input_that_is_an_output_passes_through() -> None:
    first, second = run(in_half(program_of(lambda x: (x, x.relu()), X)), X)
    assert first.dtype == second.dtype == torch.float32
    torch.testing.assert_close(first, X, rtol=1e-3, atol=1e-3)


def test_integers_stay_integers() -> None:
    index = torch.tensor([2, 0])
    program = program_of(lambda x, i: (x.index_select(1, i), i + 1), X, index)
    half = in_half(program)
    picked, following = run(half, X, index)
    assert following.dtype == torch.int64
    torch.testing.assert_close(picked, X[:, [2, 0]], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("made", [torch.arange, torch.ones])
def test_a_tensor_made_in_the_graph_is_half_too(made: object) -> None:
    conv = nn.Conv2d(4, 3, 1)
    module = Written(lambda x: conv(x * made(6.0 if made is torch.arange else 6)), conv=conv)
    half = in_half(program_of(module, X))
    assert values(half)["conv2d"].dtype == torch.float16
    torch.testing.assert_close(
        run(half, X)[0], run(program_of(module, X), X)[0], rtol=2e-2, atol=2e-2
    )


def test_casts_that_the_module_writes_itself_follow() -> None:
    conv = nn.Conv2d(4, 3, 1)

    def forward(x: Tensor) -> Tensor:
        return conv((x.float() * (x > 0).float()).to(torch.float32))

    half = in_half(program_of(Written(forward, conv=conv), X))
    assert values(half)["conv2d"].dtype == torch.float16
