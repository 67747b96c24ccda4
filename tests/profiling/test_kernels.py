from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.backends.onnx.module_note import MODULE_NOTE
from edgekit.backends.onnx.session import SessionOptions
from edgekit.profiling.kernels import profile_kernels
from edgekit.profiling.macs import macs
from edgekit.profiling.roofline import Roofline, measure_roofline

FLAT = Roofline(gmacs_per_s=10.0, gbytes_per_s=5.0)


def written(folder: Path, *, channels: int = 16) -> Path:
    """A convolution, an unfused Sin and a product of matrices."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.random((channels, 3, 3, 3), np.float32),
        "m": random.random((8, 10), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sin", ["c"], ["s"]),
        helper.make_node("MatMul", ["s", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, channels, 8, 10))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(folder / "small.onnx"))
    return folder / "small.onnx"


def test_every_kernel_has_its_time_shapes_and_multiplications(tmp_path: Path) -> None:
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    found = profile_kernels(written(tmp_path), feeds, SessionOptions(1), FLAT, runs=3)
    by_operator = {kernel.operator: kernel for kernel in found.kernels}
    assert found.runs == 3
    assert by_operator["Conv"].macs == 16 * 8 * 8 * 27
    assert by_operator["MatMul"].macs == 16 * 8 * 10 * 8
    assert by_operator["Sin"].macs == 0
    assert by_operator["Sin"].bound == "memory"
    assert by_operator["MatMul"].outputs == ((1, 16, 8, 10),)
    assert by_operator["Conv"].parameter_bytes == 16 * 27 * 4
    assert by_operator["Sin"].read_bytes == by_operator["Sin"].written_bytes == 16 * 8 * 8 * 4
    assert all(0 < kernel.p50_ms <= kernel.p90_ms for kernel in found.kernels)
    assert found.summed_ms <= found.whole_ms
    live = found.live_peak_bytes
    assert live is None or live >= 2 * 16 * 8 * 8 * 4


def test_channels_that_fill_no_block_are_marked(tmp_path: Path) -> None:
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    found = profile_kernels(written(tmp_path, channels=12), feeds, SessionOptions(1), FLAT, 1)
    (convolution,) = [k for k in found.kernels if k.operator == "Conv"]
    assert convolution.outputs == (
        (1, 12, 8, 8),
    )  # as written, though its kernel may fill it up to 16
    assert not convolution.is_aligned


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)
)
def test_multiplications_of_convolutions_are_those_of_the_loops(
    groups: int, inputs: int, outputs: int, side: int, kernel: int
) -> None:
    counted = 0
    for _group in range(groups):
        for _out in range(outputs):
            for _pixel in range(side * side):
                for _in in range(inputs):
                    counted += kernel * kernel
    weights = (groups * outputs, inputs, kernel, kernel)
    image, result = (1, groups * inputs, side, side), (1, groups * outputs, side, side)
    assert macs("Conv", image, weights, result) == counted
    back = (groups * inputs, outputs, kernel, kernel)
    assert macs("ConvTranspose", image, back, (1, groups * outputs, 9, 9)) == counted


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_multiplications_of_matrices_are_rows_times_shared_times_columns(
    batch: int, rows: int, shared: int, columns: int
) -> None:
    left, result = (batch, rows, shared), (batch, rows, columns)
    assert macs("MatMul", left, None, result) == batch * rows * shared * columns
    assert (
        macs("MatMul", (rows, shared), None, result) == batch * rows * shared * columns
    )  # broadcast
    assert (
        macs("Gemm", (shared, rows), None, (rows, columns)) == rows * shared * columns
    )  # transposed
    assert macs("Gemm", (rows, shared), None, (rows, columns)) == rows * shared * columns


@pytest.mark.parametrize("operator", ["Relu", "Resize", "Concat"])
def test_what_multiplies_no_matrices_counts_nothing(operator: str) -> None:
    assert macs(operator, (1, 8, 4, 4), None, (1, 8, 4, 4)) == 0


def test_ceilings_are_measured_and_tell_what_waits_for_memory() -> None:
    found = measure_roofline(1)
    assert found.gmacs_per_s > 0.5
    assert found.gbytes_per_s > 0.5
    ridge = found.ridge_macs_per_byte
    assert found.bound(round(2 * ridge * 1000), 1000) == "compute"
    assert found.bound(round(0.5 * ridge * 1000), 1000) == "memory"


def test_a_kernel_of_8_bit_codes_has_its_module_its_parameters_and_its_own_layout(
    tmp_path: Path,
) -> None:
    """onnxruntime fuses the nodes around it, renames it and moves its channels to the end."""
    random = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.02), "z": np.uint8(7), "ws": np.full(16, 0.01, np.float32), "wz": np.zeros(16, np.int8),
        "w": random.integers(-100, 100, (16, 3, 3, 3)).astype(np.int8),
    }  # fmt: skip
    convolution = helper.make_node("Conv", ["xd", "wd"], ["c"], "conv", pads=[1, 1, 1, 1])
    convolution.metadata_props.add(key=MODULE_NOTE, value="stem.0")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        convolution,
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "codes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 16, 8, 8))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "codes.onnx"))
    feeds = {"x": random.random((1, 3, 8, 8), np.float32)}
    found = profile_kernels(tmp_path / "codes.onnx", feeds, SessionOptions(1), FLAT, 1)
    (kernel,) = [one for one in found.kernels if "Conv" in one.operator]
    assert kernel.module == "stem.0"
    assert kernel.parameters == 16 * 27
    assert kernel.macs == 16 * 8 * 8 * 27
    assert kernel.outputs == ((1, 16, 8, 8),)
    assert kernel.is_aligned
    assert kernel.is_integer or kernel.operator != "QLinearConv"


def test_stretches_of_one_provider_are_numbered_and_shares_are_of_all(tmp_path: Path) -> None:
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    found = profile_kernels(written(tmp_path), feeds, SessionOptions(1), FLAT, runs=2)
    first, *others = found.kernels
    mixed = replace(
        found, kernels=(first, replace(first, provider="XnnpackExecutionProvider"), *others)
    )
    told = mixed.to_json(2 * mixed.summed_ms)["kernels"]
    assert [kernel["partition"] for kernel in told] == [0, 1] + [2] * len(others)
    assert sum(kernel["share"] for kernel in told) == pytest.approx(1)
