"""Which nodes onnxruntime's execution providers take, by rules that need no device.

Those of NNAPI and Core ML are the lists of operators in onnxruntime's wheel, as its mobile usability check reads them, which
judges by an operator's name alone: a Conv3d counts there as a Conv, though no mobile provider runs one
(onnxruntime#28580). Here its caveats about dimensions and constants are applied too, and two misspelt lines of the
lists are read as meant. Those of QNN and TensorRT are in no wheel: `export/providers/` has their documentation's lists,
with their source and version. All are upper bounds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgekit.data_folder import data_folder

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
FREE = {"Constant"}
XNNPACK = {
    "AveragePool", "Conv", "ConvTranspose", "DequantizeLinear", "Gemm", "MatMul", "MaxPool", "QuantizeLinear", "Resize", "Softmax", "QLinearConv",
    "QLinearConvTranspose", "QLinearAveragePool", "QLinearSoftmax",
}  # fmt: skip
"""Of the provider's page in onnxruntime's documentation; an activation behind a convolution is fused into it, and so are
the codes around one."""
DECIDES = {"Where": 1}
"""The input, by place, whose type is that of the operation, where it is not the first."""


@dataclass(frozen=True)
class Facts:
    """What is known of a graph's tensors, by name."""

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    """As NumPy names them."""
    constants: Mapping[str, onnx.TensorProto]
    constants_and_codes: frozenset[str]
    """Names of them, and of codes among them after they were scaled."""

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Facts:
        values = (*graph.value_info, *graph.input, *graph.output)
        shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in values
        }
        types = {value.name: _numpy_name(value.type.tensor_type.elem_type) for value in values}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type in FREE:
                tensors = [a.t for a in node.attribute if a.name == "value"]
                constants |= dict.fromkeys(node.output, tensors[0]) if tensors else {}
        shapes |= {name: tuple(tensor.dims) for name, tensor in constants.items()}
        types |= {name: _numpy_name(tensor.data_type) for name, tensor in constants.items()}
        scaled = {
            node.output[0]
            for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants
        }
        return cls(shapes, types, constants, frozenset(scaled | set(constants)))

    def is_zero(self, name: str) -> bool:
        """Also of a constant that lies in another file, and is not looked at."""
        tensor = self.constants.get(name)
        if tensor is None:
            return False
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return True
        return not np.any(onnx.numpy_helper.to_array(tensor))


def _numpy_name(element: int) -> str:
    """ "float8" and "int4" of all their kinds, "" of what is not known."""
    name = onnx.TensorProto.DataType.Name(element).lower()  # type: ignore[arg-type]
    name = {"float": "float32", "double": "float64", "undefined": ""}.get(name, name)
    return re.sub(r"^(float8|int4).*", r"\1", name)


@dataclass(frozen=True)
class Limit:
    """What a provider asks of some of its operators."""

    operators: frozenset[str]
    constant: tuple[int, ...] = ()
    """Inputs, by place, that must be constant where they are given."""
    of_codes: bool = False
    """Also taken where they are constant codes that a node of the file scales."""
    zero: tuple[int, ...] = ()
    """The same, and zero."""
    most_outputs: int | None = None
    most_rank: int | None = None
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values that they may have; one that is not written has its default, which is taken to be allowed."""

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> Limit:
        return cls(
            frozenset(table["operators"]),
            tuple(table.get("constant", ())),
            table.get("of_codes", False),
            tuple(table.get("zero", ())),
            table.get("most_outputs"),
            table.get("most_rank"),
            table.get("attributes", {}),
        )

    def refusal(self, node: onnx.NodeProto, facts: Facts) -> str:
        kind = node.op_type
        if kind not in self.operators:
            return ""
        known = facts.constants if not self.of_codes else facts.constants_and_codes
        if any(name not in known for name in _given(node, self.constant)):
            return f"{kind} with weights that are computed"
        if not all(map(facts.is_zero, _given(node, self.zero))):
            return f"{kind} with a zero point"
        if self.most_outputs is not None and len([n for n in node.output if n]) > self.most_outputs:
            return f"{kind} with {len(node.output)} outputs"
        rank = len(facts.shapes.get(node.input[0], ())) if node.input else 0
        if self.most_rank is not None and rank > self.most_rank:
            return f"{kind} on tensors of rank {rank}"
        for attribute in node.attribute:
            allowed = self.attributes.get(attribute.name)
            if allowed is not None and not set(_values(attribute)) <= set(allowed):
                return f"{kind} with {attribute.name} {_values(attribute)[0]}"
        return ""


def _given(node: onnx.NodeProto, places: Sequence[int]) -> list[str]:
    return [node.input[at] for at in places if at < len(node.input) and node.input[at]]


def _values(attribute: onnx.AttributeProto) -> list[Any]:
    value = onnx.helper.get_attribute_value(attribute)
    values = (
        list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else [value]
    )
    return [item.decode() if isinstance(item, bytes) else item for item in values]


def _mobile(*, of_codes: bool) -> tuple[Limit, ...]:
    """What mobile providers want constant: `of_codes` of those that know the nodes around codes as one with them."""
    return (
        Limit(frozenset({"Conv", "ConvTranspose"}), (1, 2), of_codes),
        Limit(frozenset({"Gemm", "PRelu"}), (1,), of_codes),
        Limit(frozenset({"QLinearConv"}), tuple(range(1, 9))),
    )


@dataclass(frozen=True)
class Provider:
    name: str
    operators: frozenset[str]
    """In lower case: the lists are not consistent."""
    most_rank: int
    """Of any tensor."""
    most_spatial: int
    """Dimensions of a convolution or pooling beside batch and channels."""
    source: str
    """Whose list it is, and of which version."""
    fuses: frozenset[str] = frozenset()
    types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """That an operator, in lower case, computes in; those not named here are not looked at."""
    limits: tuple[Limit, ...] = _mobile(of_codes=False)

    def refusal(self, node: onnx.NodeProto, facts: Facts) -> str:
        """Why the node runs elsewhere, as a clause; "" if it is taken."""
        kind, shapes = node.op_type, facts.shapes
        if kind.lower() not in self.operators:
            return f"{kind} is not among its operators"
        ranks = [len(shapes[name]) for name in (*node.input, *node.output) if name in shapes]
        if max(ranks, default=0) > self.most_rank:
            return f"{kind} on tensors of rank {max(ranks)}"
        rank = len(shapes.get(node.input[0], ())) if node.input else 0
        if kind in SPATIAL and rank - 2 > self.most_spatial:
            return f"{kind} over {rank - 2} dimensions"
        place = DECIDES.get(kind, 0)
        element = facts.types.get(node.input[place], "") if place < len(node.input) else ""
        if element and element not in self.types.get(kind.lower(), {element}):
            return f"{kind} of {element}"
        return next(filter(None, (limit.refusal(node, facts) for limit in self.limits)), "")


@cache
def known_providers() -> tuple[Provider, ...]:
    """NNAPI takes tensors up to rank 4, Core ML up to 5; no mobile one convolves over three dimensions."""
    wheel = f"onnxruntime {onnxruntime.__version__}"
    return (
        Provider("NNAPI", _listed("nnapi_supported_ops.md"), 4, 2, wheel, limits=_mobile(of_codes=True)),
        Provider(
            "Core ML, NeuralNetwork", _listed("coreml_supported_neuralnetwork_ops.md"), 5, 2, wheel
        ),
        Provider("Core ML, MLProgram", _listed("coreml_supported_mlprogram_ops.md"), 5, 2, wheel),
        Provider(
            "XNNPACK", frozenset(name.lower() for name in XNNPACK), 4, 2, "onnxruntime's documentation",
            frozenset({"Relu", "Clip"}), limits=_mobile(of_codes=True),
        ),
        *(documented(path) for path in sorted((data_folder("export") / "providers").glob("*.toml"))),
    )  # fmt: skip


def documented(path: Path) -> Provider:
    """Of a file of `export/providers/`."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    casts: Mapping[str, str] = table.get("casts", {})
    types: dict[str, frozenset[str]] = {}
    for group in table["operators"]:
        taken = frozenset(group["types"])
        taken |= {given for given, computed in casts.items() if computed in taken}
        types |= {name.lower(): taken for name in group["names"]}
    limits = tuple(map(Limit.from_toml, table.get("limits", ())))
    return Provider(
        table["name"], frozenset(types), table["most_rank"], table["most_spatial"], table["version"],
        types=types, limits=limits,
    )  # fmt: skip


def _listed(file: str) -> frozenset[str]:
    """Of a table in onnxruntime's wheel; empty where the wheel has none."""
    path = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers" / file
    if not path.is_file():
        return frozenset()
    found = re.findall(
        r"^\|(?:ai\.onnx|com\.microsoft)[:.](\w+)\|", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return frozenset(name.lower() for name in found)
