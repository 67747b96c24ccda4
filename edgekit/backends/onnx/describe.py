"""Facts about an ONNX file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx

from edgekit.backends.facts import FileFacts
from edgekit.errors import UsageError


def describe(path: Path) -> FileFacts:
    """Raises UsageError if the file cannot be read."""
    try:
        model = onnx.load(str(path))
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf and onnx each raise their own
        reason = (str(error).strip().splitlines() or ["it holds no model"])[0]
        raise UsageError(f"{path} is no ONNX model that can be read: {reason}.") from error
    if not model.graph.node:
        raise UsageError(f"{path} is no ONNX model that can be read: it holds no operators.")
    opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 0)
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        weights[kind] += len(tensor.raw_data) or tensor.ByteSize()
    values = [*inferred.graph.value_info, *inferred.graph.output]
    return FileFacts(
        kind=f"ONNX opset {opset}, IR {model.ir_version}",
        inputs=tuple(_text(value) for value in model.graph.input),
        outputs=tuple(_text(value) for value in model.graph.output),
        operators=Counter(node.op_type for node in model.graph.node if node.op_type != "Constant"),
        max_rank=max((len(value.type.tensor_type.shape.dim) for value in values), default=0),
        weight_bytes=weights,
    )


def _text(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    sizes = "x".join(str(dim.dim_value or dim.dim_param or "?") for dim in tensor.shape.dim)
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} {sizes}"
