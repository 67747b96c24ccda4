"""What can go wrong with one operator in half precision, judged from its single-precision values.

Float16 holds magnitudes from 6.0e-8 (subnormal) or 6.1e-5 (normal) to 65504, with 11 bits. Mobile
accelerators may flush subnormal numbers to zero and may accumulate sums in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.program.source import op_name

LARGEST = 65504.0
SMALLEST_NORMAL = 2.0**-14
LARGEST_SQUARABLE = 255.0
LARGEST_EXPONENT = 11.0
"""exp(11) is 59874; exp(11.1) is Inf."""
PRECISION = 2.0**-11

Kind = Literal[
    "overflow", "underflow", "subnormal", "epsilon", "constant", "square", "sum", "exponent", "cast"
]
Severity = Literal["breaks", "risks"]


@dataclass(frozen=True)
class Hazard:
    kind: Kind
    severity: Severity
    number: float
    why: str


@dataclass(frozen=True)
class Call:
    """One executed operator: arguments as values, results in single precision."""

    node: Node
    args: Sequence[object]
    kwargs: dict[str, object]
    result: Tensor

    @property
    def op(self) -> str:
        return op_name(self.node).removesuffix("_")

    def tensor(self, position: int) -> Tensor | None:
        value = self.args[position] if position < len(self.args) else None
        return value if isinstance(value, Tensor) else None

    def named(self, name: str) -> object:
        """An argument by its name in the operator's schema; None if it has its default None."""
        schema = getattr(self.node.target, "_schema", None)
        for position, argument in enumerate(schema.arguments if schema else ()):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                return self.kwargs.get(name, argument.default_value)
        return None


def names(listing: str) -> frozenset[str]:
    return frozenset(listing.split())


def as_half(value: float) -> float:
    return float(torch.tensor(value).half())


# These move or select values; what is wrong with a value is said where it is computed.
MOVES = names(
    "view reshape _unsafe_view permute transpose t movedim flatten unflatten squeeze unsqueeze "
    "expand expand_as repeat clone contiguous alias detach slice select narrow index_select index "
    "gather split split_with_sizes chunk unbind getitem cat concat stack pad constant_pad_nd "
    "replication_pad1d replication_pad2d replication_pad3d reflection_pad1d reflection_pad2d "
    "pixel_shuffle pixel_unshuffle flip roll dropout max_pool2d relu lift_fresh_copy"
)
NORMS = names(
    "layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm "
    "batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training var std "
    "linalg_vector_norm"
)
SHAPES = names("view reshape expand expand_as unsqueeze squeeze permute transpose clone detach")
AMPLIFIERS = names("rsqrt sqrt reciprocal div log log2 log10")
LINEAR = names(
    "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d "
    "linear matmul mm bmm addmm baddbmm sum mean"
)
EXPONENTIALS = names("softplus mish logsumexp")


def hazards(call: Call) -> Iterator[Hazard]:
    yield from _casts(call)
    if call.op in MOVES or not call.result.is_floating_point() or call.result.numel() == 0:
        return
    yield from _range(call)
    yield from _epsilon(call)
    yield from _inside(call)
    yield from _sums(call)


def stored_hazards(value: Tensor) -> Iterator[Hazard]:
    """Of a weight, a buffer or an input."""
    if value.is_floating_point() and value.numel():
        peak = _peak(value)
        if peak > LARGEST:
            yield Hazard("constant", "breaks", peak, f"a stored {peak:.4g} becomes Inf")
        elif peak and torch.count_nonzero(value.half()) == 0:
            yield Hazard(
                "constant", "breaks", peak, f"all stored values, up to {peak:.2g}, become 0"
            )


def amplified(node: Node) -> bool:
    """Whether a user of the value turns a small error near zero into a large one."""
    for user in node.users:
        name = op_name(user).removesuffix("_") if user.op == "call_function" else ""
        divides = name != "div" or user.args[1] is node
        if (name in AMPLIFIERS and divides) or (name == "pow" and _is_root(user.args[1])):
            return True
        if name in SHAPES and amplified(user):
            return True
    return False


def _is_root(exponent: object) -> bool:
    return isinstance(exponent, float) and (exponent < 0 or 0 < exponent < 1)


def _range(call: Call) -> Iterator[Hazard]:
    magnitude = torch.nan_to_num(call.result.detach(), 0.0, 0.0, 0.0).abs()
    peak = _peak(magnitude)
    if peak > LARGEST:
        yield _overflow(call, peak)
        return
    nonzero = magnitude[magnitude > 0]
    if nonzero.numel() == 0:
        return
    lost = float((nonzero.half() == 0).float().mean())
    small = float((nonzero < SMALLEST_NORMAL).float().mean())
    # Beside a large peak, small values vanish in its rounding anyway, unless something divides.
    matters = amplified(call.node)
    if lost == 1.0:
        yield Hazard("underflow", "breaks", peak, f"all values, up to {peak:.2g}, become 0")
    elif lost > 0.5 and (matters or peak * PRECISION < 2.0**-24):
        yield Hazard("underflow", "risks", lost, f"{lost:.0%} of the nonzero values become 0")
    elif small > 0.5 and (matters or peak * PRECISION < SMALLEST_NORMAL):
        why = f"{small:.0%} of the nonzero values are subnormal and may be flushed to 0"
        yield Hazard("subnormal", "risks", small, why)


def _overflow(call: Call, peak: float) -> Hazard:
    if (squared := _squared(call)) is not None:
        largest = _peak(squared)
        why = f"squares values up to {largest:.4g}; half holds squares up to {LARGEST_SQUARABLE:g}"
        return Hazard("square", "breaks", largest, why)
    return Hazard("overflow", "breaks", peak, f"reaches {peak:.4g}; half ends at {LARGEST:g}")


def _squared(call: Call) -> Tensor | None:
    first = call.tensor(0)
    by_itself = call.op == "mul" and first is not None and first is call.tensor(1)
    by_power = call.op == "pow" and len(call.args) > 1 and call.args[1] in (2, 2.0)
    return first if by_itself or by_power or call.op == "square" else None


def _epsilon(call: Call) -> Iterator[Hazard]:
    """A small constant that guards a division, and the values it guards."""
    guard = _guard(call)
    if guard is None:
        return
    epsilon, guarded = guard
    smallest = float(guarded.min()) if guarded.numel() else math.inf
    zeros = as_half(min(smallest, LARGEST)) == 0.0 and (call.op in NORMS or amplified(call.node))
    if as_half(epsilon) == 0.0:
        why = f"epsilon {epsilon:g} becomes 0"
        if zeros:
            why += ", and so does what it is added to: a division by 0"
        yield Hazard("epsilon", "breaks" if zeros else "risks", epsilon, why)
    elif smallest + epsilon < SMALLEST_NORMAL:
        why = f"epsilon {epsilon:g} is subnormal in half and decides: the sum is as small as "
        yield Hazard("epsilon", "risks", epsilon, f"{why}{smallest + epsilon:.2g}")


def _guard(call: Call) -> tuple[float, Tensor] | None:
    if call.op in NORMS:
        epsilon, spread = call.named("eps"), _spread(call)
        if isinstance(epsilon, float) and 0 < epsilon < SMALLEST_NORMAL and spread is not None:
            return epsilon, spread
        return None
    if call.op not in ("add", "clamp", "clamp_min", "maximum"):
        return None
    guarded, constant = call.tensor(0), call.named("min" if "clamp" in call.op else "other")
    if isinstance(constant, Tensor) and constant.numel() == 1:
        constant = float(constant)
    if guarded is None or not isinstance(constant, float) or not 0 < constant < SMALLEST_NORMAL:
        return None
    if not amplified(call.node) and as_half(constant) != 0.0:
        return None
    return constant, guarded.detach().abs()


def _spread(call: Call) -> Tensor | None:
    """The variance, or mean square, that a normalisation divides by."""
    x = call.tensor(0)
    if x is None:
        return None
    x = x.detach().float()
    if "batch_norm" in call.op:
        variance = call.named("running_var")
        return variance.detach() if isinstance(variance, Tensor) else None
    if "group_norm" in call.op:
        groups = call.named("num_groups") or call.named("group")
        assert isinstance(groups, int)
        return x.reshape(x.shape[0], groups, -1).var(-1, unbiased=False)
    if call.op == "instance_norm":
        return x.flatten(2).var(-1, unbiased=False)
    shape = call.named("normalized_shape")
    if not isinstance(shape, Sequence):
        return None
    axes = tuple(range(-len(shape), 0))
    return x.square().mean(axes) if call.op == "rms_norm" else x.var(axes, unbiased=False)


def _inside(call: Call) -> Iterator[Hazard]:
    """Values that an operator computes on the way and never shows."""
    x = call.tensor(0)
    if x is None or not x.is_floating_point() or x.numel() == 0:
        return
    peak = _peak(x)
    if call.op in NORMS and "batch_norm" not in call.op and peak > LARGEST_SQUARABLE:
        why = f"squares values up to {peak:.4g} inside; safe only if computed in single precision"
        yield Hazard("square", "risks", peak, why)
    if call.op in EXPONENTIALS and float(x.max()) > LARGEST_EXPONENT:
        why = f"takes exp of values up to {float(x.max()):.4g} inside, unless it subtracts the peak"
        yield Hazard("exponent", "risks", float(x.max()), why)
    for constant in call.args[1:]:
        if isinstance(constant, float) and math.isfinite(constant) and abs(constant) > LARGEST:
            yield Hazard("constant", "risks", constant, f"the constant {constant:g} becomes Inf")


def _sums(call: Call) -> Iterator[Hazard]:
    """The largest partial sum that any order of summation can meet: all terms of one sign."""
    if call.op not in LINEAR or _peak(call.result) > LARGEST or not callable(call.node.target):
        return
    terms = [arg.detach().abs() if isinstance(arg, Tensor) else arg for arg in call.args]
    whole = call.node.target(*terms, **call.kwargs)
    reach = float((whole + call.result.detach().abs()).max()) / 2
    if call.op == "mean":
        x = call.tensor(0)
        reach *= 1 if x is None else x.numel() / max(1, call.result.numel())
    if reach > LARGEST:
        why = f"partial sums may reach {reach:.4g}; safe only if accumulated in single precision"
        yield Hazard("sum", "risks", reach, why)


def _casts(call: Call) -> Iterator[Hazard]:
    x = call.tensor(0)
    if call.op not in ("to", "_to_copy", "type_as", "convert_element_type") or x is None:
        return
    if call.result.dtype == torch.float64:
        yield Hazard("cast", "risks", 64, "double precision exists on no mobile accelerator")
    elif x.is_floating_point() and call.result.dtype == torch.float32:
        yield Hazard("cast", "risks", 32, "an explicit cast to single precision may be dropped")
    elif not x.is_floating_point() and call.result.is_floating_point() and _peak(x) > 2048:
        peak = _peak(x)
        yield Hazard("cast", "risks", peak, f"integers up to {peak:g}; half is exact up to 2048")


def _peak(value: Tensor) -> float:
    """Largest finite magnitude: what is infinite already is no matter of precision."""
    if not value.numel():
        return 0.0
    return float(torch.nan_to_num(value.detach(), 0.0, 0.0, 0.0).abs().max())
