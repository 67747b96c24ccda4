"""Weights of fewer than eight bits, without the bits that they do not need: files of opset 18 have no such types.

A weight of n codes of b bits is stored as b rows of n bits, and taken apart by nodes in front of it:

    code  =  sum over rows k of  ((row_k >> place) & 1) 2^k  -  most

They read constants alone, so that onnxruntime computes them once, as it opens the file, and runs the integer
kernels that it would run without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgekit.backends.onnx.leaves import leaves_last

NODES_BYTES = 700
"""Of the nodes that take a weight apart, about: one that would save less stays as it is."""
FEWEST_BITS = 2
PREFIX = "packed"


def pack(path: Path) -> None:
    """Rewrite the file; each weight gets as many bits as its largest code needs."""
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in _weights(model)}
    shared: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    for number, tensor in enumerate(weights.values()):
        codes = numpy_helper.to_array(tensor)
        bits = bits_needed(codes)
        if packed_bytes(codes.size, bits) >= codes.size:
            continue
        nodes += _taken_apart(tensor.name, codes, bits, number, shared)
        model.graph.initializer.remove(tensor)
    if not nodes:
        return
    others = list(model.graph.node)
    model.graph.ClearField("node")
    model.graph.node.extend([*nodes, *others])
    model.graph.initializer.extend(shared.values())
    leaves_last(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def packed_bytes(count: int, bits: int) -> int:
    """Of a weight in the file: whole bytes of rows, or a byte for each code where that is less."""
    return min(count, bits * -(-count // 8) + NODES_BYTES)


def bits_needed(codes: npt.NDArray[np.int8]) -> int:
    """Of codes around 0."""
    largest = int(np.abs(codes.astype(np.int16)).max(initial=0))
    return max(FEWEST_BITS, largest.bit_length() + 1)


def _weights(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Constants of 8 bits that are the numbers of one weight or more, and nothing else."""
    read: dict[str, set[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            read.setdefault(name, set()).add((node.op_type, place))
    for tensor in list(model.graph.initializer):
        if tensor.data_type == TensorProto.INT8 and read.get(tensor.name) == {
            ("DequantizeLinear", 0)
        }:
            yield tensor


def _taken_apart(
    name: str,
    codes: npt.NDArray[np.int8],
    bits: int,
    number: int,
    shared: dict[str, TensorProto],
) -> list[NodeProto]:
    most = 2 ** (bits - 1) - 1
    raised = (codes.astype(np.int16) + most).astype(np.uint8).ravel()
    rows = np.stack([np.packbits(raised >> row & 1, bitorder="little") for row in range(bits)])

    def constant(label: str, value: npt.NDArray[np.generic]) -> str:
        known = f"{PREFIX}_{label}"
        shared[known] = numpy_helper.from_array(value, known)
        return known

    def result(label: str) -> str:
        return f"{PREFIX}{number}_{label}"

    stored = constant(f"{number}", rows[..., None])
    places = constant("places", np.arange(8, dtype=np.uint8))
    one = constant("one", np.ones(1, np.uint8))
    worth = constant(f"worth_{bits}", (2 ** np.arange(bits, dtype=np.int32))[:, None, None])
    summed = constant("rows", np.zeros(1, np.int64))
    middle = constant(f"most_{bits}", np.array(most, np.int32))
    shape = constant("x".join(map(str, codes.shape)), np.array(codes.shape, np.int64))
    nodes = [
        helper.make_node("BitShift", [stored, places], [result("a")], direction="RIGHT"),
        helper.make_node("BitwiseAnd", [result("a"), one], [result("b")]),
        helper.make_node("Cast", [result("b")], [result("c")], to=TensorProto.INT32),
        helper.make_node("Mul", [result("c"), worth], [result("d")]),
        helper.make_node("ReduceSum", [result("d"), summed], [result("e")], keepdims=0),
    ]
    last = result("e")
    if codes.size % 8:
        flat, first, end = (
            constant(label, np.array([value], np.int64))
            for label, value in (("flat", -1), ("first", 0), (f"end_{codes.size}", codes.size))
        )
        nodes.append(helper.make_node("Reshape", [last, flat], [result("f")]))
        nodes.append(helper.make_node("Slice", [result("f"), first, end], [result("g")]))
        last = result("g")
    return [
        *nodes,
        helper.make_node("Reshape", [last, shape], [result("h")]),
        helper.make_node("Sub", [result("h"), middle], [result("i")]),
        helper.make_node("Cast", [result("i")], [name], to=TensorProto.INT8),
    ]
