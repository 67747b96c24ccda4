"""A linear layer whose weight has blocks of zeros, in onnxruntime: as it is, as bands of blocks, and without whole columns.

    python benchmarks/block_products.py

The layers are those of DeiT-Tiny on 197 tokens. "zeros" is the dense product with zeros in the weight, "bands" a product of
the columns that each band of rows needs (the rule block-rows), "columns" a gather and one product where blocks are zeros in
whole columns. Shares of the dense product's median, of runs in turns, one thread.
"""

from __future__ import annotations

import statistics

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.profiling.timing import timed_ms

TOKENS, TURNS, WARM_UP = 197, 20, 4
OPSET, IR = 18, 10
LAYERS = {"qkv": (576, 192), "fc1": (768, 192), "fc2": (192, 768)}
Weight = npt.NDArray[np.float32]


def main() -> None:
    generator = np.random.default_rng(0)
    given = {name: generator.standard_normal((1, TOKENS, shape[1]), np.float32) for name, shape in LAYERS.items()}  # fmt: skip
    print("layer  side  zeros   zeros bands columns   dense ms")
    for name, (rows, columns) in LAYERS.items():
        for side in (32, 64):
            for share in (0.5, 0.75, 0.9):
                weight = generator.standard_normal((rows, columns), np.float32)
                kept = generator.random((rows // side, columns // side)) > share
                alike = np.broadcast_to(
                    generator.random(columns // side) > share, kept.shape
                ).copy()
                alike[:, 0] = True
                of_blocks, of_columns = (
                    weight * np.kron(each, np.ones((side, side), np.float32)) for each in (kept, alike)
                )  # fmt: skip
                sessions = {
                    "dense": product(weight), "zeros": product(of_blocks),
                    "bands": bands(of_blocks, side), "columns": gathered(of_columns),
                }  # fmt: skip
                found = in_turns(sessions, given[name])
                shares = " ".join(f"{found[kind] / found['dense']:5.2f}" for kind in ("zeros", "bands", "columns"))  # fmt: skip
                print(
                    f"{name:6} {side:4} {share:6.0%}   {shares}      {found['dense']:.2f}",
                    flush=True,
                )


def in_turns(sessions: dict[str, onnxruntime.InferenceSession], given: Weight) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(WARM_UP + TURNS):
        for name, session in sessions.items():
            milliseconds = timed_ms(lambda session=session: session.run(None, {"x": given}))
            if turn >= WARM_UP:
                taken[name].append(milliseconds)
    return {name: statistics.median(times) for name, times in taken.items()}


def product(weight: Weight) -> onnxruntime.InferenceSession:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return opened(nodes, {"w": np.ascontiguousarray(weight.T)}, weight.shape[1])


def gathered(weight: Weight) -> onnxruntime.InferenceSession:
    kept = np.flatnonzero(weight.any(0)).astype(np.int64)
    nodes = [
        helper.make_node("Gather", ["x", "kept"], ["few"], axis=2),
        helper.make_node("MatMul", ["few", "w"], ["y"]),
    ]
    constants = {"kept": kept, "w": np.ascontiguousarray(weight[:, kept].T)}
    return opened(nodes, constants, weight.shape[1])


def bands(weight: Weight, side: int) -> onnxruntime.InferenceSession:
    rows, columns = weight.shape
    blocks = range(columns // side)
    constants: dict[str, npt.NDArray[np.generic]] = {"sizes": np.full(len(blocks), side, np.int64)}
    nodes = [helper.make_node("Split", ["x", "sizes"], [f"x{k}" for k in blocks], axis=2)]
    for first in range(0, rows, side):
        parts = {k: weight[first : first + side, k * side : (k + 1) * side] for k in blocks}
        used = [k for k in blocks if parts[k].any()] or [0]
        constants[f"w{first}"] = np.ascontiguousarray(np.concatenate([parts[k] for k in used], 1).T)
        nodes += [
            helper.make_node("Concat", [f"x{k}" for k in used], [f"few{first}"], axis=2),
            helper.make_node("MatMul", [f"few{first}", f"w{first}"], [f"y{first}"]),
        ]
    made = [f"y{first}" for first in range(0, rows, side)]
    nodes.append(helper.make_node("Concat", made, ["y"], axis=2))
    return opened(nodes, constants, columns)


def opened(
    nodes: list[onnx.NodeProto], constants: dict[str, npt.NDArray[np.generic]], columns: int
) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(
        nodes, "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, TOKENS, columns))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    settings = session_settings(SessionOptions(threads=1))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


if __name__ == "__main__":
    main()
