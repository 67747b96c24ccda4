"""Operators that compute each output element from the same place of their inputs.

Arithmetic and activations with broadcasting; and those that mix one or a few dimensions wholly and
leave the others alone: softmax, channel norms, reductions, inference BatchNorm.
"""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import (
    IndexMap,
    Tape,
    has_constant_parameters,
    is_batched,
    is_constant,
    shape,
    with_full,
    with_parameters,
)
from edgekit.plan.region import Region, Span, whole
from edgekit.program.affine import DEQUANTIZE, QUANTIZE

aten = torch.ops.aten


class Pointwise(IndexMap):
    """out[i] = f(a[i], b[i], ...) with broadcasting from the right."""

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        return {
            source: broadcast(region, source)
            for source in node.all_input_nodes
            if not is_constant(source)
        }

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        def local(value: Any) -> Any:
            if isinstance(value, Node):
                return tape.operand(value, broadcast(region, value))
            return value

        arguments = [local(value) for value in node.args]
        options = {key: local(value) for key, value in node.kwargs.items()}
        return tape.call(node.target, *arguments, **options)


def broadcast(region: Region, source: Node) -> Region:
    """The part of `source` that broadcasts to `region`."""
    sizes = shape(source)
    lead = len(region) - len(sizes)
    return tuple((0, 1) if size == 1 else region[lead + dim] for dim, size in enumerate(sizes))


class Filled(IndexMap):
    """zeros_like and its kin: of their first argument they take the shape, and no element."""

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        return {}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        sizes = [int(stop) - int(start) for start, stop in region]
        value = node.args[-1] if "full" in str(node.target) else int("ones" in str(node.target))
        return tape.call(aten.full.default, sizes, value, dtype=node.meta["val"].dtype)


class ChannelParameters(Pointwise):
    """First argument pointwise, the others per channel (dimension 1): BatchNorm, PReLU."""

    def applies(self, node: Node) -> bool:
        return has_constant_parameters(node)

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, {1})

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source = node.args[0]
        return {source: region} if isinstance(source, Node) else {}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        return with_parameters(node, region, tape)


class NormalisedValue(IndexMap):
    """operator.getitem(batch norm, 0): the value among what the operator returns."""

    def applies(self, node: Node) -> bool:
        source: Any = node.args[0]
        is_norm = source.target is aten._native_batch_norm_legit_no_training.default
        return bool(is_norm and node.args[1] == 0)

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        return {source: region}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        source: Any = node.args[0]
        return tape.operand(source, region)


class Mixing(IndexMap):
    """Some dimensions are mixed wholly, by a softmax or a norm; the others stand apart."""

    def applies(self, node: Node) -> bool:
        return has_constant_parameters(node)

    def mixed(self, node: Node) -> set[int]:
        rank = len(shape(node))
        if node.target is aten.layer_norm.default:
            normalised: Any = node.args[1]
            return set(range(rank - len(normalised), rank))
        if node.target is aten.rms_norm.default:
            normalised = node.args[1]
            return set(range(rank - len(normalised), rank))
        if node.target in (aten.group_norm.default, aten.instance_norm.default):
            return set(range(1, rank))
        dims: Any = node.args[1]
        return {dim % rank for dim in (dims if isinstance(dims, list | tuple) else [dims])}

    def computed(self, node: Node, region: Region) -> Region:
        return with_full(region, node, self.mixed(node))

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source = node.args[0]
        assert isinstance(source, Node)
        return {source: region}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        return with_parameters(node, region, tape)


class Reduction(IndexMap):
    """mean, sum, amax, ... over some dimensions, kept or not."""

    def reduced(self, node: Node) -> set[int]:
        source: Any = node.args[0]
        rank = len(shape(source))
        at = 2 if node.target is aten.linalg_vector_norm.default else 1  # its order comes first
        dims: Any = node.args[at] if len(node.args) > at else None
        if dims is None or dims == []:
            return set(range(rank))
        return {dim % rank for dim in (dims if isinstance(dims, list | tuple) else [dims])}

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        reduced = self.reduced(node)
        kept = len(region) == len(shape(source))
        spans = iter(region)
        found: list[Span] = []
        for dim, size in enumerate(shape(source)):
            if dim in reduced:
                found.append((0, size))
                if kept:
                    next(spans)
            else:
                found.append(next(spans))
        return {source: tuple(found)}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(node.target, tape.operand(source, needed), *node.args[1:], **node.kwargs)


class PooledToOne(IndexMap):
    """adaptive_avg_pool to 1x1: a mean over everything but batch and channels."""

    def applies(self, node: Node) -> bool:
        return is_batched(node)

    def computed(self, node: Node, region: Region) -> Region:
        return region if set(shape(node)[2:]) == {1} else whole(shape(node))

    def needs(self, node: Node, region: Region) -> dict[Node, Region]:
        source: Any = node.args[0]
        return {source: (*region[:2], *whole(shape(source))[2:])}

    def emit(self, node: Node, region: Region, tape: Tape) -> Any:
        ((source, needed),) = self.needs(node, region).items()
        return tape.call(node.target, tape.operand(source, needed), *node.args[1:], **node.kwargs)


_UNARY = (
    "relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "hardswish", "hardsigmoid", "hardtanh",
    "leaky_relu", "elu", "selu", "celu", "softplus", "mish", "exp", "log", "sqrt", "rsqrt",
    "reciprocal", "abs", "neg", "sign", "floor", "ceil", "round", "sin", "cos", "erf", "square",
    "clamp_min", "clamp_max", "clamp", "log_sigmoid", "softsign", "logical_not", "bitwise_not",
    "alias", "clone", "detach", "dropout", "contiguous", "log1p", "expm1", "softshrink",
)  # fmt: skip
_OPERATORS = [
    getattr(aten, name).default for name in _UNARY if hasattr(getattr(aten, name, None), "default")
]
_OPERATORS += [
    getattr(getattr(aten, name), overload)
    for name in ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where", "eq", "ne", "lt",
                 "le", "gt", "ge", "rsub", "remainder", "logical_and", "logical_or", "clamp", "atan2",
                 "masked_fill", "floor_divide", "fmod")
    for overload in ("default", "Tensor", "Scalar", "self", "Tensor_mode", "Scalar_mode", "Tensor_Tensor",
                     "Tensor_Scalar", "Scalar_Tensor", "ScalarSelf", "ScalarOther")
    if hasattr(getattr(aten, name), overload)
]  # fmt: skip
_OPERATORS += [
    aten._to_copy.default,
    aten.to.dtype,
    aten.lift_fresh_copy.default,
    QUANTIZE,
    DEQUANTIZE,
]

POINTWISE: dict[object, IndexMap] = {
    **dict.fromkeys(_OPERATORS, Pointwise()),
    **dict.fromkeys(
        (aten.zeros_like.default, aten.ones_like.default, aten.full_like.default,
         aten.new_zeros.default, aten.new_ones.default, aten.new_full.default),
        Filled(),
    ),
    aten.prelu.default: ChannelParameters(),
    aten._native_batch_norm_legit_no_training.default: ChannelParameters(),
    aten.batch_norm.default: ChannelParameters(),
    getitem: NormalisedValue(),
    **dict.fromkeys(
        (aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten.layer_norm.default,
         aten.rms_norm.default, aten.group_norm.default, aten.instance_norm.default),
        Mixing(),
    ),
    **dict.fromkeys(
        (aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.sum.default, aten.amax.default,
         aten.amin.default, aten.var.correction, aten.var.dim, aten.linalg_vector_norm.default),
        Reduction(),
    ),
    aten.adaptive_avg_pool2d.default: PooledToOne(),
    aten.adaptive_avg_pool3d.default: PooledToOne(),
    aten.adaptive_avg_pool1d.default: PooledToOne(),
}  # fmt: skip
