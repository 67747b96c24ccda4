"""Where MIL operators and the functions that compute them meet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Compute = Callable[..., Any]


@dataclass(frozen=True)
class Op:
    compute: Compute
    """Takes MIL's argument names; returns one tensor, or a tuple when MIL has several outputs."""
    attributes: frozenset[str]
    """Arguments that arrive as Python numbers, strings or lists: all those not annotated Tensor."""
    exact: bool
    """Outputs hold only values that were inputs already, so rounding them again changes nothing."""


OPS: dict[str, Op] = {}


def register(name: str, compute: Compute, *, exact: bool = False) -> None:
    parameters = inspect.signature(compute).parameters.values()
    attributes = frozenset(p.name for p in parameters if "Tensor" not in str(p.annotation))
    OPS[name] = Op(compute, attributes, exact)


def op(compute: Compute) -> Compute:
    """Register under the function's own name; outputs are rounded when the program is half."""
    register(compute.__name__, compute)
    return compute


def exact_op(compute: Compute) -> Compute:
    """Register an operator that moves or selects values."""
    register(compute.__name__, compute, exact=True)
    return compute
