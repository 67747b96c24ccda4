"""A loaded ML Program function as a list of steps ready to execute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.backends.coreml.ops import OPS
from edgekit.backends.coreml.ops.registry import Compute
from edgekit.errors import ConversionError

STORED_AS_IS = {"bool": np.bool_, "fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class Value:
    """A tensor that the program names."""

    name: str
    dtype: str
    """MIL's name: fp16, fp32, int32, bool, uint8..."""
    shape: tuple[int | None, ...]
    """None where the program is flexible."""

    @property
    def is_half(self) -> bool:
        return self.dtype == "fp16"

    @property
    def held_as(self) -> torch.dtype:
        """Floats of any width compute as float32, integers as int32."""
        if self.dtype.startswith("fp"):
            return torch.float32
        return torch.bool if self.dtype == "bool" else torch.int32

    def to_numpy(self, tensor: Tensor) -> np.ndarray[Any, np.dtype[np.generic]]:
        """In the declared type; never a view of a tensor that the interpreter still uses."""
        dtype = STORED_AS_IS.get(self.dtype) or np.dtype(self.dtype)
        return tensor.numpy().astype(dtype)


@dataclass(frozen=True)
class Step:
    """One operator. `literals` are arguments known at load time, the others name earlier values."""

    op: str
    compute: Compute
    literals: dict[str, Any]
    tensors: dict[str, str]
    tensor_lists: dict[str, tuple[str, ...]]
    attributes: dict[str, str]
    """Sizes and indices that the program computes; they reach `compute` as Python numbers."""
    outputs: tuple[Value, ...]
    exact: bool
    finished: tuple[str, ...]
    """Values that no later step reads."""


@dataclass(frozen=True)
class Steps:
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    constants: dict[str, Tensor]

    @property
    def has_half(self) -> bool:
        values = [*self.inputs, *(value for step in self.steps for value in step.outputs)]
        return any(value.is_half for value in values)


def described(var: Any) -> Value:
    """The name, type and shape of a coremltools Var."""
    from coremltools.converters.mil.mil import types

    shape = tuple(int(n) if isinstance(n, (int, np.integer)) else None for n in var.shape)
    return Value(var.name, str(types.builtin_to_string(var.dtype)), shape)


def is_constant(var: Any) -> bool:
    return var.op is not None and (
        var.op.op_type == "const" or var.op.op_type.startswith("constexpr_")
    )


def constant(var: Any) -> Any:
    """The NumPy value of a constant; a compressed weight is decompressed."""
    return var.op.materialized_val_inference() if var.val is None else var.val


def as_tensor(var: Any) -> Tensor:
    array = np.array(constant(var))  # a copy: constants may be read-only views of the weight file
    if array.dtype.kind in "iu":
        array = array.astype(np.int32)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
    return torch.from_numpy(array)


def as_attribute(var: Any) -> Any:
    value = constant(var)
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


class _Reader:
    """Collects the constants of one function while its operators become steps."""

    def __init__(self) -> None:
        self.constants: dict[str, Tensor] = {}

    def named(self, var: Any) -> str:
        if is_constant(var) and var.name not in self.constants:
            self.constants[var.name] = as_tensor(var)
        return str(var.name)

    def step(self, op: Any, finished: Iterable[str]) -> Step:
        outputs = tuple(described(var) for var in op.outputs)
        known = OPS.get(op.op_type)
        if known is None:
            raise ConversionError(
                f"Operator {op.op_type} (output {outputs[0].name if outputs else 'none'}) is not "
                "supported by the reference interpreter, so this program cannot be checked without "
                "a Mac."
            )
        literals: dict[str, Any] = {}
        tensors: dict[str, str] = {}
        tensor_lists: dict[str, tuple[str, ...]] = {}
        attributes: dict[str, str] = {}
        for argument, given in op.inputs.items():
            if given is None:
                continue
            is_attribute = argument in known.attributes
            if isinstance(given, (list, tuple)):
                if is_attribute:
                    literals[argument] = [as_attribute(var) for var in given]
                else:
                    tensor_lists[argument] = tuple(self.named(var) for var in given)
            elif not is_attribute:
                tensors[argument] = self.named(given)
            elif is_constant(given):
                literals[argument] = as_attribute(given)
            else:
                attributes[argument] = self.named(given)
        return Step(
            op.op_type,
            known.compute,
            literals,
            tensors,
            tensor_lists,
            attributes,
            outputs,
            known.exact,
            tuple(finished),
        )


def read_steps(function: Any) -> Steps:
    """Turn a coremltools function into steps. Raises ConversionError for an unknown operator."""
    ops = [op for op in function.operations if not op.op_type.startswith("const")]
    kept = {var.name for var in function.outputs}
    last_reader: dict[str, int] = {}
    for index, op in enumerate(ops):
        read = [
            v
            for given in op.inputs.values()
            if given is not None
            for v in (given if isinstance(given, (list, tuple)) else (given,))
        ]
        for var in [*read, *op.outputs]:
            if not is_constant(var) and var.name not in kept:
                last_reader[var.name] = index
    finished: dict[int, list[str]] = {}
    for name, index in last_reader.items():
        finished.setdefault(index, []).append(name)
    reader = _Reader()
    steps = tuple(reader.step(op, finished.get(index, ())) for index, op in enumerate(ops))
    for var in function.outputs:
        reader.named(var)
    return Steps(
        tuple(described(var) for var in function.inputs.values()),
        tuple(described(var) for var in function.outputs),
        steps,
        reader.constants,
    )
