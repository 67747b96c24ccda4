"""Arithmetic, comparison and logic, element by element with NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.backends.coreml.ops.registry import exact_op, op, register

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


def unary(function: Unary) -> Callable[[Tensor], Tensor]:
    def compute(x: Tensor) -> Tensor:
        return function(x)

    return compute


def binary(function: Binary) -> Callable[[Tensor, Tensor], Tensor]:
    def compute(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return compute


UNARY: dict[str, Unary] = {
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
# A half number above 2048 is an integer already, so rounding to integers stays within half.
EXACT_UNARY: dict[str, Unary] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "identity": lambda x: x,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
}
BINARY: dict[str, Binary] = {
    "add": torch.add,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "sub": torch.sub,
}
EXACT_BINARY: dict[str, Binary] = {
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "not_equal": torch.ne,
}

for name, function in UNARY.items():
    register(name, unary(function))
for name, function in EXACT_UNARY.items():
    register(name, unary(function), exact=True)
for name, pair_function in BINARY.items():
    register(name, binary(pair_function))
for name, pair_function in EXACT_BINARY.items():
    register(name, binary(pair_function), exact=True)


@op
def pow(x: Tensor, y: Tensor) -> Tensor:
    # A Python exponent takes torch's fast paths for 2, 3, -1 and 0.5.
    return torch.pow(x, y.item() if y.ndim == 0 else y)


@op
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return torch.reciprocal(x + epsilon)


@op
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


@op
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@exact_op
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x, alpha, beta)


@exact_op
def threshold(x: Tensor, alpha: float) -> Tensor:
    return torch.clamp(x, min=alpha)


@op
def cast(x: Tensor, dtype: str) -> Tensor:
    """Float to integer truncates; half stays float32 here and is rounded by the interpreter."""
    if dtype == "bool":
        return x != 0
    return x.to(torch.float32 if dtype.startswith("fp") else torch.int32)


@exact_op
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)
