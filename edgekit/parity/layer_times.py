"""How long the layers of a network take here: onnxruntime's own profile of its nodes, by module.

The network is written as ONNX once. Names of values survive onnxruntime's fusions where a module ends,
so that a cut behind a module is a tensor of the optimised graph: all nodes that it needs are the head.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime

from edgekit.backends.onnx.kernel_events import profiled_runs
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.backends.onnx.write import OnnxOptions, write
from edgekit.backends.runnable import Array
from edgekit.program.program import Program
from edgekit.program.source import module_paths


@dataclass(frozen=True)
class LayerCut:
    """Behind a module where one tensor crosses."""

    layer: str
    shape: tuple[int, ...]
    head_ms: float
    """Of all that the tensor needs."""


@dataclass(frozen=True)
class LayerTimes:
    cuts: tuple[LayerCut, ...]
    """In order of their work."""
    total_ms: float
    """Of the whole network, not profiled: the least of the runs, since other work only adds."""
    runs: int
    reference: str

    @property
    def by_layer(self) -> dict[str, float]:
        """Milliseconds from one cut to the next; what follows the last cut is with it."""
        ends = [cut.head_ms for cut in self.cuts]
        lasting = [end - start for start, end in zip([0.0, *ends], ends, strict=False)]
        if lasting:
            lasting[-1] += self.total_ms - ends[-1]
        return {cut.layer: ms for cut, ms in zip(self.cuts, lasting, strict=True)}


def layer_times(
    program: Program, inputs: Mapping[str, Array], runs: int = 10, threads: int = 1
) -> LayerTimes:
    """Shares of layers by the medians of their nodes, after a warm-up. Raises ConversionError for what ONNX cannot hold."""
    with TemporaryDirectory(prefix="edgekit-layers-") as name:
        path = Path(name) / "network.onnx"
        write(program, path, OnnxOptions())
        total_ms = _whole(path, inputs, runs, threads)
        # Without the layout by blocks of channels, which renames the tensors; the shares hardly differ.
        options = SessionOptions(threads=threads, optimisation="extended")
        seen = profiled_runs(path, inputs, options, runs)
        node_ms = {kernel.name: statistics.median(kernel.times_ms) for kernel in seen.kernels}
        found = _cuts(seen.graph, node_ms, _ends(program))
    measured = sum(node_ms.values())
    scale = total_ms / measured if measured else 1.0
    cuts = tuple(LayerCut(cut.layer, cut.shape, scale * cut.head_ms) for cut in found)
    return LayerTimes(cuts, total_ms, runs, f"onnxruntime {onnxruntime.__version__} CPU, {threads} thread(s)")  # fmt: skip


def _whole(path: Path, inputs: Mapping[str, Array], runs: int, threads: int) -> float:
    file = load(path, SessionOptions(threads=threads))
    times = []
    for _ in range(runs + 2):
        started = time.perf_counter()
        file.run(inputs)
        times.append(time.perf_counter() - started)
    return 1000 * min(times[2:])


def _ends(program: Program) -> dict[str, tuple[str, tuple[int, ...]]]:
    """By path of a module, the value and shape that it ends with."""
    ends: dict[str, tuple[str, tuple[int, ...]]] = {}
    for node in program.exported.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not hasattr(value, "shape"):
            continue
        for path in module_paths(node):
            if path:
                ends[path] = (node.name, tuple(value.shape))
    return ends


def _cuts(
    graph: onnx.ModelProto,
    node_ms: Mapping[str, float],
    ends: Mapping[str, tuple[str, tuple[int, ...]]],
) -> list[LayerCut]:
    nodes = list(graph.graph.node)
    producer = {value: number for number, node in enumerate(nodes) for value in node.output}
    given = {value.name for value in graph.graph.input}
    results = {value.name for value in graph.graph.output}
    readers: dict[str, set[int]] = defaultdict(set)
    for number, node in enumerate(nodes):
        for value in node.input:
            readers[value].add(number)
    seen: set[str] = set()
    cuts = []
    for layer, (value, shape) in ends.items():
        if value not in producer or value in seen or value in results:
            continue
        needed = _needed(producer[value], nodes, producer)
        made = {name for number in needed for name in nodes[number].output}
        made |= {name for number in needed for name in nodes[number].input if name in given}
        if any(readers[name] - needed for name in made if name != value):
            continue
        seen.add(value)
        cuts.append(LayerCut(layer, shape, sum(node_ms.get(nodes[n].name, 0.0) for n in needed)))
    return sorted(cuts, key=lambda cut: cut.head_ms)


def _needed(last: int, nodes: list[onnx.NodeProto], producer: Mapping[str, int]) -> set[int]:
    found, left = {last}, [last]
    while left:
        for value in nodes[left.pop()].input:
            number = producer.get(value)
            if number is not None and number not in found:
                found.add(number)
                left.append(number)
    return found
