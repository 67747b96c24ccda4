"""What the machine can do at most, measured with the same runtime and threads as the model."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.profiling.timing import timed_ms

Bound = Literal["compute", "memory"]
MATRIX_SIDE = 768
VECTOR_BYTES = 64 << 20
"""Larger than caches, so that main memory is what is measured."""
SECONDS = 1.0
"""For each of the two: a ceiling is the best of what was seen."""


@dataclass(frozen=True)
class Roofline:
    gmacs_per_s: float
    """Float32, of a product of matrices."""
    gbytes_per_s: float
    """Read and written, of a copy that clips."""

    @property
    def ridge_macs_per_byte(self) -> float:
        """Kernels that multiply less than this for a byte wait for memory."""
        return self.gmacs_per_s / self.gbytes_per_s

    def bound(self, macs: int, moved_bytes: int) -> Bound:
        return "compute" if macs > self.ridge_macs_per_byte * moved_bytes else "memory"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ridge_macs_per_byte": self.ridge_macs_per_byte}


def measure_roofline(threads: int) -> Roofline:
    side, count = MATRIX_SIDE, VECTOR_BYTES // 4
    product = _fastest_ms("MatMul", [(side, side), (side, side)], (side, side), threads)
    copy = _fastest_ms("Relu", [(count,)], (count,), threads)
    return Roofline(side**3 / product / 1e6, 2 * VECTOR_BYTES / copy / 1e6)


def _fastest_ms(
    operator: str, shapes: list[tuple[int, ...]], result: tuple[int, ...], threads: int
) -> float:
    names = [f"x{number}" for number in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"])],
        operator,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_settings(SessionOptions(threads)), providers=["CPUExecutionProvider"]
    )  # fmt: skip
    random = np.random.default_rng(0)
    feeds = {
        name: random.random(shape, np.float32) for name, shape in zip(names, shapes, strict=True)
    }
    end = time.perf_counter() + SECONDS
    fastest = timed_ms(lambda: session.run(None, feeds))
    while time.perf_counter() < end:
        fastest = min(fastest, timed_ms(lambda: session.run(None, feeds)))
    return fastest
