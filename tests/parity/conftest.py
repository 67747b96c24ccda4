"""Programs and corrupted files to test the parity checks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.contract import TensorSpec
from edgekit.parity.torch_run import ObservedRun
from edgekit.program.program import Program
from edgekit.program.source import op_name


def _program_of(module: nn.Module, *inputs: Tensor, core_aten: bool = False) -> Program:
    exported = torch.export.export(module.eval(), inputs)
    if core_aten:
        exported = exported.run_decompositions()
    with torch.no_grad():
        outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return Program(
        exported,
        tuple(TensorSpec(f"in{i}", tuple(value.shape)) for i, value in enumerate(inputs)),
        tuple(TensorSpec(f"out{i}", tuple(value.shape)) for i, value in enumerate(outputs)),
    )


class FakeFile:
    """A file that computes what the program does, but for one node, under names of its own."""

    reference = "a fake"

    def __init__(
        self,
        program: Program,
        corrupt: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        rename: Callable[[str], str | None] = lambda name: name,
    ) -> None:
        self.program = program
        self.corrupt = corrupt or {}
        self.rename = rename

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def trace(self, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray]]:
        values: list[tuple[str, str, np.ndarray]] = []

        def step(node: torch.fx.Node, args: object, kwargs: object, value: object) -> object:
            if node.op == "call_function" and isinstance(value, Tensor):
                if node.name in self.corrupt:
                    value = self.corrupt[node.name](value)
                if (name := self.rename(node.name)) is not None:
                    values.append((name, op_name(node), value.numpy()))
            return value

        ObservedRun(self.program, step).run_by_name(inputs)
        yield from values


@pytest.fixture(scope="session")
def program_of() -> Callable[..., Program]:
    """Inputs are in0, in1, ..., outputs out0, out1, ..."""
    return _program_of


@pytest.fixture(scope="session")
def fake_file() -> type[FakeFile]:
    return FakeFile
