"""Kernels of an ONNX file as onnxruntime ran them: time, shapes, memory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.backends.onnx.kernel_events import KernelEvents, profiled_runs
from edgekit.backends.onnx.module_note import MODULE_NOTE
from edgekit.backends.onnx.session import SessionOptions
from edgekit.backends.runnable import Array
from edgekit.profiling.macs import FILTERS, macs
from edgekit.profiling.roofline import Bound, Roofline

RUNS = 30
ALIGNMENT = 16
ADDED = re.compile(r"(_nchwc|_token_\d+)+$")
"""What onnxruntime adds to the names of nodes that it lays out in blocks of channels, or fuses of 8-bit codes."""
INTEGERS = {"int8", "uint8"}


@dataclass(frozen=True)
class Kernel:
    """One kernel of the optimised graph. Shapes are of tensors, weights among the inputs."""

    name: str
    """Of its node, after what it was fused of."""
    module: str
    """Path of the submodule whose result it gives, as far as the file's nodes say."""
    operator: str
    provider: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    element_type: str
    """Of its first input."""
    p50_ms: float
    p90_ms: float
    macs: int
    parameter_bytes: int
    read_bytes: int
    """Activations."""
    written_bytes: int
    live_bytes: int | None
    """What onnxruntime had in use when it ended, weights that it laid out anew included."""
    bound: Bound | None
    """None where the machine's ceilings are not known."""
    parameters: int = 0
    """Numbers in the weights of its node, as the file has them."""

    @property
    def gmacs_per_s(self) -> float:
        return self.macs / self.p50_ms / 1e6 if self.p50_ms else 0.0

    @property
    def moved_bytes(self) -> int:
        return self.read_bytes + self.written_bytes + self.parameter_bytes

    @property
    def is_aligned(self) -> bool:
        """Whether its channels fill blocks of 16, where it has such: pictures and videos have."""
        shapes = [shape for shape in self.outputs if len(shape) in (4, 5)]
        return all(shape[1] % ALIGNMENT == 0 for shape in shapes)

    @property
    def is_integer(self) -> bool:
        """Whether it computes with 8-bit codes. The first input of some is a scale."""
        return self.element_type in INTEGERS or self.operator.startswith("QLinear")

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        return {
            **fields,
            "inputs": [list(shape) for shape in self.inputs],
            "outputs": [list(shape) for shape in self.outputs],
            "gmacs_per_s": self.gmacs_per_s,
            "macs_per_byte": self.macs / max(1, self.moved_bytes),
            "activation_bytes": self.read_bytes + self.written_bytes,
            "is_aligned": self.is_aligned,
            "is_integer": self.is_integer,
        }


@dataclass(frozen=True)
class Kernels:
    """Of one file, in the order of their first run."""

    file: str
    runs: int
    """How often the file runs for one result of the bundle: once for each window of a plan."""
    kernels: tuple[Kernel, ...]
    whole_ms: float
    """Median of the file's run, with profiling on."""

    @property
    def summed_ms(self) -> float:
        return sum(kernel.p50_ms for kernel in self.kernels)

    @property
    def live_peak_bytes(self) -> int | None:
        live = [kernel.live_bytes for kernel in self.kernels if kernel.live_bytes is not None]
        return max(live) if live else None

    @property
    def partitions(self) -> list[int]:
        """Of each kernel, the stretch of neighbours that one provider runs: between two of them data change hands."""
        found: list[int] = []
        for before, kernel in zip((None, *self.kernels), self.kernels):
            same = before is not None and before.provider == kernel.provider
            found.append(found[-1] + (not same) if found else 0)
        return found

    def to_json(self, all_ms: float) -> dict[str, Any]:
        """`all_ms` is what the kernels of all files take of one result."""
        kernels = [
            {**kernel.to_json(), "partition": partition, "share": self.runs * kernel.p50_ms / max(1e-9, all_ms)}
            for kernel, partition in zip(self.kernels, self.partitions, strict=True)
        ]  # fmt: skip
        return {
            "file": self.file,
            "runs": self.runs,
            "whole_ms": self.whole_ms,
            "summed_ms": self.summed_ms,
            "kernels": kernels,
        }


def profile_kernels(
    path: Path, feeds: Mapping[str, Array], options: SessionOptions, roofline: Roofline, runs: int
) -> Kernels:
    """Run the file with onnxruntime's profiler on; `runs` is what `Kernels.runs` says."""
    seen = profiled_runs(path, feeds, options, RUNS)
    filters, written = _filters(seen.graph), Written.of(path)
    kernels = (_kernel(events, filters, written, roofline) for events in seen.kernels)
    return Kernels(path.name, runs, tuple(kernels), float(np.median(seen.whole_ms)))


def _filters(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of convolutions' filters, by node: a kernel that laid them out anew does not name them."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.name: constants[node.input[FILTERS[node.op_type]]]
        for node in model.graph.node
        if node.op_type in FILTERS and node.input[FILTERS[node.op_type]] in constants
    }


@dataclass(frozen=True)
class Written:
    """What the exported file says of a result, by names of its node and of itself: a fused kernel has either."""

    modules: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    """Which a kernel's layout may have padded to blocks of channels."""
    parameters: Mapping[str, int]

    @classmethod
    def of(cls, path: Path) -> Written:
        file = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
        values = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*file.graph.value_info, *file.graph.output)
        }
        modules, shapes, parameters = {}, {}, {}
        constants = {tensor.name: math.prod(tensor.dims) for tensor in file.graph.initializer}
        constants |= {
            node.output[0]: constants[node.input[0]]
            for node in file.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants
        }
        for node in file.graph.node:
            counted = sum(constants.get(name, 0) for name in node.input)
            for name in (node.name, *node.output):
                modules[name] = next(
                    (note.value for note in node.metadata_props if note.key == MODULE_NOTE), ""
                )
                parameters[name] = counted
                if node.output[0] in values:
                    shapes[name] = values[node.output[0]]
        return cls(modules, shapes, parameters)


def _kernel(
    events: KernelEvents,
    filters: Mapping[str, tuple[int, ...]],
    written: Written,
    roofline: Roofline,
) -> Kernel:
    name, arguments = events.name, events.arguments
    inputs = _shapes(arguments["input_type_shape"])
    outputs = _shapes(arguments["output_type_shape"])
    known = ADDED.sub("", name)
    if known in written.shapes and len(outputs) == 1:
        outputs = (written.shapes[known],)
    operator = str(arguments["op_name"])
    live = arguments.get("mem_bytes_requested_in_use")
    types = [kind for shape in arguments["input_type_shape"] for kind in shape]
    counted = 0
    if inputs and outputs:
        counted = macs(operator, inputs[0], filters.get(name), outputs[0])
    parameter_bytes, read, made = (
        int(arguments[key]) for key in ("parameter_size", "activation_size", "output_size")
    )
    return Kernel(
        name=name,
        module=written.modules.get(known, ""),
        operator=operator,
        provider=str(arguments["provider"]),
        inputs=inputs,
        outputs=outputs,
        element_type=types[0] if types else "",
        p50_ms=float(np.median(events.times_ms)),
        p90_ms=float(np.percentile(events.times_ms, 90)),
        macs=counted,
        parameter_bytes=parameter_bytes,
        read_bytes=read,
        written_bytes=made,
        live_bytes=None if live is None else int(live),
        bound=roofline.bound(counted, parameter_bytes + read + made),
        parameters=written.parameters.get(known, 0) or math.prod(filters.get(name, (0,))),
    )


def completed(file: Kernels, path: Path | None, roofline: Roofline | None) -> Kernels:
    """Of a device, which tells no more than its runtime does: multiplications, and modules of the file at `path`."""
    written = Written.of(path) if path is not None else Written({}, {}, {})
    return replace(
        file, kernels=tuple(_completed(kernel, written, roofline) for kernel in file.kernels)
    )


def _completed(kernel: Kernel, written: Written, roofline: Roofline | None) -> Kernel:
    known, place = ADDED.sub("", kernel.name), FILTERS.get(kernel.operator)
    counted, shapes = kernel.macs, kernel.inputs
    filters = shapes[place] if place is not None and place < len(shapes) else None
    if not counted and shapes and kernel.outputs:
        counted = macs(kernel.operator, shapes[0], filters, kernel.outputs[0])
    outputs = kernel.outputs
    if known in written.shapes and len(outputs) == 1:
        outputs = (written.shapes[known],)
    return replace(
        kernel,
        module=kernel.module or written.modules.get(known, ""),
        macs=counted,
        outputs=outputs,
        parameters=kernel.parameters
        or written.parameters.get(known, 0)
        or (0 if filters is None else math.prod(filters)),
        bound=roofline.bound(counted, kernel.moved_bytes) if roofline else None,
    )


def _shapes(listed: list[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    """Of [{"float": [1, 3, 8, 8]}, ...], as onnxruntime writes them."""
    return tuple(tuple(shape) for item in listed for shape in item.values())
