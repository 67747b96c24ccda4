"""A program run node by node, with every value shown to an observer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Interpreter, Node
from torch.fx.node import Argument

from edgekit.contract import TensorSpec
from edgekit.errors import UsageError
from edgekit.program.program import Program

Array = npt.NDArray[np.generic]
Arguments = tuple[Argument, ...]
Options = dict[str, object]
Before = Callable[[Node, Arguments, Options], tuple[Arguments, Options]]
After = Callable[[Node, Arguments, Options, object], object]


class ObservedRun(Interpreter):
    """Runs `program` and frees values after their last use, as torch.fx does.

    `before` may change an operator's arguments; what `after` returns replaces its value.
    """

    def __init__(
        self, program: Program, after: After, before: Before = lambda _, args, kw: (args, kw)
    ) -> None:
        module = program.exported.module()
        if not isinstance(module, torch.fx.GraphModule):
            raise TypeError("torch.export no longer gives a GraphModule")
        super().__init__(module)
        self.program = program
        self.before = before
        self.after = after

    def run_by_name(self, inputs: Mapping[str, Array]) -> None:
        """Run on arrays by input name. Raises UsageError for a missing input or a wrong shape."""
        with torch.no_grad():
            self.run(*(self._tensor(spec, inputs) for spec in self.program.inputs))

    def run_node(self, n: Node) -> object:
        if n.op == "output":
            return super().run_node(n)
        if n.op == "call_module" and n.target == "_guards_fn":  # checks shapes, computes nothing
            return None
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        args, kwargs = self.before(n, args, kwargs)
        value = getattr(self, n.op)(n.target, args, kwargs)
        return self.after(n, args, kwargs, value)

    @staticmethod
    def _tensor(spec: TensorSpec, inputs: Mapping[str, Array]) -> torch.Tensor:
        if spec.name not in inputs:
            given = ", ".join(inputs) or "none"
            raise UsageError(f"The program needs an input '{spec.name}'; given: {given}.")
        value = np.ascontiguousarray(inputs[spec.name])
        if value.shape != spec.shape:
            raise UsageError(
                f"Input '{spec.name}' has shape {value.shape}; the program takes {spec.shape}."
            )
        return torch.from_numpy(value).to(getattr(torch, spec.dtype))  # files hold bool as int32
