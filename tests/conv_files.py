"""Small ONNX files of convolutions, written without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_convolutions(path: Path, *, side: int, channels: int = 16, depth: int = 4) -> Path:
    """`picture` 1 3 side side, `depth` 3x3 convolutions with ReLU, `result` 1 channels side side."""
    random = np.random.default_rng(0)
    nodes, weights, value, inputs = [], [], "picture", 3
    for index in range(depth):
        weight = random.standard_normal((channels, inputs, 3, 3), np.float32) / (3 * inputs**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        last = "result" if index == depth - 1 else f"relu{index}"
        nodes += [
            helper.make_node("Conv", [value, f"w{index}"], [f"conv{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"conv{index}"], [last]),
        ]
        value, inputs = last, channels
    graph = helper.make_graph(
        nodes, "convolutions",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, channels, side, side])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))
    return path
