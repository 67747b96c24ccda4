"""Milliseconds of a layer at widths that it might get, measured in onnxruntime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from edgekit.backends.onnx.kernel_events import profiled_runs
from edgekit.backends.onnx.session import SessionOptions
from edgekit.compress.pruning.layers import Layer

SHARES = (0.75, 0.5, 0.25)
"""Of a layer's channels, rounded to blocks, at which it is measured beside all and the least; between them,
interpolation."""
RUNS = 9
LAYERS_PER_FILE = 48
OPSET, IR = 18, 10
KERNELS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "MatMul")
"""Not the copies into blocks of channels and back: in a whole network they stand between few layers."""


@dataclass(frozen=True)
class Shape:
    """What a layer's time depends on beside its channels."""

    operator: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    """(): what keeps the size."""
    dilation: tuple[int, ...]
    groups: int
    """0: depthwise."""
    sides: tuple[int, ...]
    """Of its input without batch and channels; of a linear layer, the rows."""
    batch: int

    @classmethod
    def of(cls, layer: Layer) -> Shape:
        module = layer.module
        if isinstance(module, nn.Linear):
            rows = int(np.prod(layer.given[:-1]))
            return cls("Gemm", (), (), (), (), 1, (rows,), 1)
        assert isinstance(module, nn.modules.conv._ConvNd)
        padding = module.padding if isinstance(module.padding, tuple) else ()
        return cls(
            "ConvTranspose" if module.transposed else "Conv", module.kernel_size, module.stride,
            padding, module.dilation, 0 if layer.is_depthwise else module.groups, layer.given[2:],
            layer.given[0],
        )  # fmt: skip


@dataclass(frozen=True)
class Point:
    shape: Shape
    reads: int
    makes: int


class LatencyTable:
    """A cost of layers in milliseconds, each of its runs counted."""

    unit = "ms"

    def __init__(self, layers: Iterable[Layer], round_to: int, least: float) -> None:
        """Measures, down to the share `least` of channels: some seconds for a small network."""
        self._grids = {}
        for layer in layers:
            shape = Shape.of(layer)
            step = math.lcm(round_to, max(1, shape.groups))
            makes = _grid(layer.makes, step, least)
            reads = (0,) if layer.is_depthwise else _grid(layer.reads, step, least)
            self._grids[layer.path] = (shape, reads, makes)
        points = {
            _point(shape, read, made)
            for shape, reads, makes in self._grids.values()
            for read, made in product(reads, makes)
        }
        self.measured = measure(sorted(points, key=repr))

    def __call__(self, layer: Layer, reads: int, makes: int) -> float:
        shape, grid_reads, grid_makes = self._grids[layer.path]
        along = [
            np.interp(
                makes, grid_makes, [self.measured[_point(shape, read, made)] for made in grid_makes]
            )
            for read in grid_reads
        ]
        return layer.runs * float(np.interp(reads, grid_reads, along))

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {**vars(point.shape), "reads": point.reads, "makes": point.makes, "ms": milliseconds}
            for point, milliseconds in self.measured.items()
        ]


def _grid(channels: int, step: int, least: float) -> tuple[int, ...]:
    inner = {max(1, round(share * channels / step)) * step for share in (*SHARES, least)}
    return tuple(sorted({channels, *(width for width in inner if width < channels)}))


def _point(shape: Shape, reads: int, makes: int) -> Point:
    return Point(shape, reads or makes, makes)


def measure(points: Sequence[Point]) -> dict[Point, float]:
    """Medians, of one thread. Many layers are in one file, so that what else the machine does meets all alike."""
    found: dict[Point, float] = {}
    for start in range(0, len(points), LAYERS_PER_FILE):
        found |= _measured(points[start : start + LAYERS_PER_FILE])
    return found


def _measured(points: Sequence[Point]) -> dict[Point, float]:
    generator = np.random.default_rng(0)
    nodes, constants, feeds, outputs = [], [], {}, []
    for number, point in enumerate(points):
        node, weight, given = _node(point, number, generator)
        nodes.append(node)
        constants.append(weight)
        feeds[node.input[0]] = given
        outputs.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    with tempfile.TemporaryDirectory(prefix="edgekit-layers-") as folder:
        path = Path(folder) / "layers.onnx"
        onnx.save(model, str(path))
        seen = profiled_runs(path, feeds, SessionOptions(threads=1), RUNS)
    taken: Mapping[int, float] = {
        int(kernel.name.split("#")[1].split("_")[0]): float(np.median(kernel.times_ms))
        for kernel in seen.kernels
        if str(kernel.arguments["op_name"]) in KERNELS
    }
    return {point: taken[number] for number, point in enumerate(points)}


def _node(
    point: Point, number: int, generator: np.random.Generator
) -> tuple[Any, Any, np.ndarray[Any, Any]]:
    """The layer's node, its weight, and numbers for its input.

    Kernels are named after nodes or after their results, which so have one name.
    """
    shape = point.shape
    groups = shape.groups or point.makes
    within = (point.reads, point.makes // groups) if shape.operator == "ConvTranspose" else (
        point.makes, point.reads // groups
    )  # fmt: skip
    options: dict[str, Any] = {}
    if shape.operator == "Gemm":
        given = generator.standard_normal((*shape.sides, point.reads), np.float32)
        options = {"transB": 1}
    else:
        given = generator.standard_normal((shape.batch, point.reads, *shape.sides), np.float32)
        options = {
            "kernel_shape": shape.kernel, "strides": shape.stride, "dilations": shape.dilation,
            "group": groups,
        }  # fmt: skip
        options |= {"pads": shape.padding * 2} if shape.padding else {"auto_pad": "SAME_UPPER"}
    weight = generator.standard_normal((*within, *shape.kernel), np.float32)
    node = helper.make_node(
        shape.operator, [f"given{number}", f"weight{number}"], [f"layer#{number}"],
        name=f"layer#{number}", **options,
    )  # fmt: skip
    return node, onnx.numpy_helper.from_array(weight, f"weight{number}"), given
