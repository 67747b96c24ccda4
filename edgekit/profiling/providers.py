"""What onnxruntime's execution providers would take of a file, predicted without a device.

The lists of operators are those in onnxruntime's wheel, as its mobile usability check reads them, which judges by
an operator's name alone: a Conv3d counts there as a Conv, though no mobile provider runs one
(onnxruntime#28580). Here its caveats about dimensions and constants are applied too, and two misspelt lines of the
lists are read as meant. Still an upper bound: attributes are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgekit.profiling.macs import FILTERS, macs
from edgekit.profiling.partitions import partitions
from edgekit.report import aligned

Shapes = Mapping[str, tuple[int, ...]]
SPATIAL = {
    "Conv",
    "ConvTranspose",
    "AveragePool",
    "MaxPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "QLinearConv",
    "Resize",
}
"""Operators whose lists allow so many dimensions beside batch and channels."""
CONSTANT = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1,),
    "PRelu": (1,),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
}
"""Inputs, by place, that mobile providers want constant."""
FREE = {"Constant"}
XNNPACK = {
    "AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Resize", "Softmax", "QLinearConv",
    "QLinearConvTranspose", "QLinearAveragePool", "QLinearSoftmax",
}  # fmt: skip
"""Of the provider's page in onnxruntime's documentation; an activation behind a convolution is fused into it."""
FUSED = {"Relu", "Clip"}


@dataclass(frozen=True)
class Provider:
    name: str
    operators: frozenset[str]
    """In lower case: the lists are not consistent."""
    most_rank: int
    """Of any tensor."""
    most_spatial: int
    """Dimensions of a convolution or pooling beside batch and channels."""
    fuses: frozenset[str] = frozenset()

    def refusal(self, node: onnx.NodeProto, shapes: Shapes, constants: frozenset[str]) -> str:
        """Why the node runs elsewhere, as a clause; "" if it is taken."""
        kind = node.op_type
        if kind.lower() not in self.operators:
            return f"{kind} is not among its operators"
        ranks = [len(shapes[name]) for name in (*node.input, *node.output) if name in shapes]
        if max(ranks, default=0) > self.most_rank:
            return f"{kind} on tensors of rank {max(ranks)}"
        rank = len(shapes.get(node.input[0], ())) if node.input else 0
        if kind in SPATIAL and rank - 2 > self.most_spatial:
            return f"{kind} over {rank - 2} dimensions"
        given = [
            node.input[at]
            for at in CONSTANT.get(kind, ())
            if at < len(node.input) and node.input[at]
        ]
        return (
            ""
            if all(name in constants for name in given)
            else f"{kind} with weights that are computed"
        )


@dataclass(frozen=True)
class Prediction:
    provider: str
    partitions: int
    nodes: int
    taken: int
    mac_share: float
    """Of the multiply-accumulates."""
    refusals: tuple[tuple[str, int], ...]
    """Why nodes run elsewhere, with how many, most first."""

    def to_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider, "partitions": self.partitions, "nodes": self.nodes,
            "taken": self.taken, "mac_share": self.mac_share, "refusals": dict(self.refusals),
        }  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    file: str
    available: tuple[str, ...]
    """In the onnxruntime of this process."""
    predicted: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [one.to_json() for one in self.predicted]
        return {"file": self.file, "available": list(self.available), "predicted": rows}

    def text(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("provider, predicted", "nodes", "of the work", "partitions", "elsewhere")
        ]
        rows += [
            (one.provider, f"{one.taken}/{one.nodes}", f"{one.mac_share:.0%}", str(one.partitions),
             "; ".join(f"{count} {reason}" for reason, count in one.refusals[:3]) or "nothing")
            for one in self.predicted
        ]  # fmt: skip
        here = ", ".join(name.removesuffix("ExecutionProvider") for name in self.available)
        return f"{aligned(rows)}\nthis onnxruntime has {here}"


def predict(path: Path) -> Predictions:
    """Of an ONNX file, as it was exported."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False)).graph
    shapes = _shapes(graph)
    constants = frozenset(tensor.name for tensor in graph.initializer) | frozenset(
        name for node in graph.node if node.op_type in FREE for name in node.output
    )
    nodes = [node for node in graph.node if node.op_type not in FREE]
    found = tuple(_predict(provider, nodes, shapes, constants) for provider in known_providers())
    return Predictions(path.name, tuple(onnxruntime.get_available_providers()), found)


def _predict(
    provider: Provider, nodes: list[onnx.NodeProto], shapes: Shapes, constants: frozenset[str]
) -> Prediction:
    refusals = [provider.refusal(node, shapes, constants) for node in nodes]
    taken = [not refusal for refusal in refusals]
    made_by = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    for at, node in enumerate(nodes):
        source = made_by.get(node.input[0]) if node.input else None
        if node.op_type in provider.fuses and source is not None and taken[source]:
            taken[at], refusals[at] = True, ""
    readers = [[made_by[name] for name in node.input if name in made_by] for node in nodes]
    work = [_macs(node, shapes) for node in nodes]
    counted: dict[str, int] = {}
    for refusal in filter(None, refusals):
        counted[refusal] = counted.get(refusal, 0) + 1
    share = sum(count for count, is_taken in zip(work, taken, strict=True) if is_taken) / max(
        1, sum(work)
    )
    most_first = tuple(sorted(counted.items(), key=lambda item: -item[1]))
    return Prediction(
        provider.name, partitions(readers, taken), len(nodes), sum(taken), share, most_first
    )


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    place = FILTERS.get(node.op_type)
    inputs = [shapes.get(name) for name in node.input]
    result = shapes.get(node.output[0])
    if not inputs or inputs[0] is None or result is None:
        return 0
    return macs(node.op_type, inputs[0], inputs[place] if place is not None else None, result)


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    found = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


@cache
def known_providers() -> tuple[Provider, ...]:
    """NNAPI takes tensors up to rank 4, Core ML up to 5; none of them convolves over three dimensions."""
    return (
        Provider("NNAPI", _listed("nnapi_supported_ops.md"), 4, 2),
        Provider("Core ML, NeuralNetwork", _listed("coreml_supported_neuralnetwork_ops.md"), 5, 2),
        Provider("Core ML, MLProgram", _listed("coreml_supported_mlprogram_ops.md"), 5, 2),
        Provider("XNNPACK", frozenset(name.lower() for name in XNNPACK), 4, 2, frozenset(FUSED)),
    )


def _listed(file: str) -> frozenset[str]:
    """Of a table in onnxruntime's wheel; empty where the wheel has none."""
    path = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers" / file
    if not path.is_file():
        return frozenset()
    found = re.findall(
        r"^\|(?:ai\.onnx|com\.microsoft)[:.](\w+)\|", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return frozenset(name.lower() for name in found)
