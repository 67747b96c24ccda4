"""Small modules captured, rewritten by single rules, and run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.program.capture import capture
from edgekit.program.editing import GraphEditor, shape_of
from edgekit.program.program import Program
from edgekit.program.rule import Decision, Rule
from edgekit.program.source import op_name


class Written(nn.Module):
    """A forward written as a function of the inputs; its layers are registered by name."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.written(*inputs)


def program_of(module: nn.Module | Callable[..., Any], *inputs: Tensor) -> Program:
    module = module if isinstance(module, nn.Module) else Written(module)
    return capture(module, inputs).program


def run(program: Program, *inputs: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        result = program.exported.module()(*inputs)
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def operators(program: Program) -> list[str]:
    nodes = program.exported.graph.nodes
    return [op_name(node) for node in nodes if node.op == "call_function"]


def highest_rank(program: Program) -> int:
    return max(len(shape_of(node)) for node in program.exported.graph.nodes)


class Edited:
    """One capture with `rules` applied, run without the second capture that `rewrite` makes."""

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor], *rules: Rule) -> None:
        self.inputs = tuple(inputs)
        with torch.no_grad():
            expected = module.eval()(*self.inputs)
        self.expected = expected if isinstance(expected, tuple) else (expected,)
        edit = GraphEditor(program_of(module, *self.inputs))
        self.nodes_before = self._calls(edit)
        self.decisions: list[Decision] = [found for rule in rules for found in rule.apply(edit)]
        edit.clean()
        edit.module.recompile()
        self.edit = edit
        self.nodes = self._calls(edit)
        with torch.no_grad():
            actual = edit.module(*self.inputs)
        self.actual = tuple(actual) if isinstance(actual, (tuple, list)) else (actual,)

    @staticmethod
    def _calls(edit: GraphEditor) -> list[torch.fx.Node]:
        return [node for node in edit.graph.nodes if node.op == "call_function"]

    @property
    def operators(self) -> list[str]:
        return [op_name(node) for node in self.nodes]

    @property
    def highest_rank(self) -> int:
        return max((len(shape_of(node)) for node in self.nodes), default=0)

    def assert_equal(self, tolerance: float = 1e-12) -> None:
        for expected, actual in zip(self.expected, self.actual, strict=True):
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
