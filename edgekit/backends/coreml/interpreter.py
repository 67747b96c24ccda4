"""Executes an ML Program with torch on the CPU.

Half precision is emulated: every operator computes in float32 and its output is rounded to the
nearest half number, or to infinity beyond 65504. That is storage in half with accumulation in
float32; torch's own half kernels would take a hundred times longer on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.backends.coreml.steps import Step, Steps, Value
from edgekit.backends.runnable import Array
from edgekit.errors import UsageError, first_line

REFERENCE = "edgekit ML Program reference interpreter"


def listed(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(names) or "none"


class MilProgram:
    """A Runnable over the operators of one function of a saved package."""

    def __init__(self, program: Steps, *, emulate_half: bool = True) -> None:
        self.program = program
        self.emulate_half = self.rounds_to_half = emulate_half
        half = program.has_half and emulate_half
        self.reference = f"{REFERENCE} ({'float16 emulated' if half else 'float32'})"

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, in their declared types (float32 for half without emulation).

        Image inputs are N C H W arrays of 0..255; their scale and bias are operators inside.
        """
        with torch.inference_mode():
            values = self.accept(inputs)
            for step in self.program.steps:
                self.compute(step, values)
                for name in step.finished:
                    del values[name]
            return {out.name: self.to_numpy(out, values[out.name]) for out in self.program.outputs}

    @torch.inference_mode()
    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Every operator output in execution order: value name, operator, value."""
        values = self.accept(inputs)
        for step in self.program.steps:
            self.compute(step, values)
            for out in step.outputs:
                yield out.name, step.op, self.to_numpy(out, values[out.name])
            for name in step.finished:
                del values[name]

    def compute(self, step: Step, values: dict[str, Tensor]) -> None:
        """Execute one step and add its outputs to `values`."""
        try:
            results = self._computed(step, values)
        except IndexError as error:
            raise UsageError(
                f"{step.op} '{step.outputs[0].name}' cannot compute with this input: "
                f"{first_line(error)}."
            ) from error
        results = results if isinstance(results, tuple) else (results,)
        for out, tensor in zip(step.outputs, results, strict=True):
            values[out.name] = self.rounded(out, tensor, exact=step.exact)

    @staticmethod
    def _computed(step: Step, values: dict[str, Tensor]) -> Any:
        return step.compute(
            **step.literals,
            **{argument: values[name] for argument, name in step.tensors.items()},
            **{
                argument: tuple(values[name] for name in names)
                for argument, names in step.tensor_lists.items()
            },
            **{argument: values[name].tolist() for argument, name in step.attributes.items()},
        )

    def rounded(self, value: Value, tensor: Tensor, *, exact: bool) -> Tensor:
        """The tensor in the type that holds `value`, rounded if that is declared half."""
        if value.is_half and self.emulate_half and not exact:
            return tensor.half().float()
        return tensor.to(value.held_as)

    def accept(self, inputs: Mapping[str, Array]) -> dict[str, Tensor]:
        """Check the inputs and return them with the constants as the first values."""
        declared = {value.name: value for value in self.program.inputs}
        if unknown := [name for name in inputs if name not in declared]:
            raise UsageError(
                f"The program has no input {listed(unknown)}; its inputs are {listed(declared)}."
            )
        values = dict(self.program.constants)
        for name, value in declared.items():
            if name not in inputs:
                raise UsageError(f"Input {name} is missing; the inputs are {listed(declared)}.")
            array = np.asarray(inputs[name])
            if not fits(array.shape, value.shape):
                raise UsageError(
                    f"Input {name} has shape {sizes(array.shape)}, but the program takes "
                    f"{sizes(value.shape)}."
                )
            held = np.float32 if value.dtype.startswith("fp") else np.int32
            given = torch.from_numpy(array.astype(np.bool_ if value.dtype == "bool" else held))
            values[name] = self.rounded(value, given, exact=False)
        return values

    def to_numpy(self, value: Value, tensor: Tensor) -> Array:
        if value.is_half and not self.emulate_half:
            return tensor.numpy().copy()
        return value.to_numpy(tensor)


def fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        n is None or n == size for size, n in zip(shape, declared, strict=True)
    )


def sizes(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if n is None else str(n) for n in shape) or "scalar"
