"""Milliseconds of each layer in floats and in codes, measured in onnxruntime in the whole network's files."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from edgekit.backends.onnx.kernel_events import profiled_runs
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.exporting import ExportOptions, export_model
from edgekit.model import Model
from edgekit.profiling.timing import timed_ms
from edgekit.target import Target

ONE_THREAD = SessionOptions(threads=1)
RUNS = 15
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
KERNELS = (*WEIGHTED, "FusedConv", "FusedGemm", "FusedMatMul", "QLinearConv", "QLinearMatMul", "QGemm",
           "MatMulIntegerToFloat", "DynamicQuantizeMatMul")  # fmt: skip
ACTIVATIONS = ("Relu", "Clip")
STORED = ("DequantizeLinear", "Transpose", "Identity")
"""What a weight comes through."""
RENAMED = re.compile(r"^fused |(_nchwc|_token_\d+|_quant)+$")
"""What onnxruntime adds to the names of nodes that it puts into others' place."""
WARM_UP = 2


@dataclass(frozen=True)
class LayerTimes:
    floats: Mapping[str, float]
    """By layer."""
    codes: Mapping[str, float]
    """As an integer kernel, with its part of what other operators take more or less in codes, by
    multiply-accumulates."""


def layer_times(
    whole: Model, quantised: Model, target: Target, layers: Mapping[str, int], timed: Sequence[str]
) -> LayerTimes:
    """Of `timed`, among all `layers` in the graph's order with their multiply-accumulates.

    Raises what `export_model` does, and UsageError where the target's files have other layers.
    """
    with TemporaryDirectory(prefix="edgekit-layers-") as folder:
        seen = []
        for number, model in enumerate((whole, quantised)):
            options = ExportOptions(verify=False, simplify=False)
            bundle = export_model(model, target, Path(folder) / str(number), options)[0]
            seen.append(_times(bundle, layers))
    (floats, other_floats), (codes, other_codes) = seen
    more = (other_codes - other_floats) / sum(layers[name] for name in timed)
    return LayerTimes(
        {name: floats[name] for name in timed},
        {name: codes[name] + more * layers[name] for name in timed},
    )


def _times(bundle: Bundle, layers: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """Of each layer's kernel, and of all others together.

    A kernel that the runtime renamed beyond recognition counts as fast as the others are.
    """
    seen = profiled_runs(bundle.model_file, bundle.golden()[0], ONE_THREAD, RUNS)
    known = _layers_by_name(onnx.load(str(bundle.model_file)), list(layers))
    found: dict[str, float] = {}
    others = 0.0
    for kernel in seen.kernels:
        milliseconds = statistics.median(kernel.times_ms)
        layer = known.get(RENAMED.sub("", kernel.name))
        if layer is None or kernel.arguments["op_name"] not in KERNELS:
            others += milliseconds
        else:
            found[layer] = found.get(layer, 0.0) + milliseconds
    rate = sum(found.values()) / max(1, sum(layers[name] for name in found))
    return {name: found.get(name, rate * macs) for name, macs in layers.items()}, others


def _layers_by_name(model: onnx.ModelProto, layers: Sequence[str]) -> dict[str, str]:
    """A layer by all names that its kernel may have: of its node or result, or of the activation that it applies."""
    producers = {name: node for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.input}
    weighted = [
        node
        for node in model.graph.node
        if node.op_type in WEIGHTED and _is_stored(node.input[1], producers, given)
    ]
    if len(weighted) != len(layers):
        raise UsageError(
            f"The target's rewrites make {len(weighted)} layers of {len(layers)}, so that their milliseconds "
            "cannot be told apart; ask for a size."
        )
    found: dict[str, str] = {}
    for node, layer in zip(weighted, layers):
        readers = [one for one in model.graph.node if node.output[0] in one.input]
        behind = [one for one in readers if one.op_type in ACTIVATIONS and len(readers) == 1]
        for one in (node, *behind):
            found |= dict.fromkeys((one.name, *one.output), layer)
    return found


def _is_stored(name: str, producers: Mapping[str, onnx.NodeProto], given: Collection[str]) -> bool:
    """Whether a value is one of the file's constants, as it is or through codes."""
    while (node := producers.get(name)) is not None:
        if node.op_type == "Constant":
            return True
        if node.op_type not in STORED:
            return False
        name = node.input[0]
    return name not in given


def milliseconds(bundle: Bundle) -> float:
    """Median of a run, with one thread."""
    return in_turns([bundle])[0]


def in_turns(bundles: Sequence[Bundle]) -> list[float]:
    """Medians of each file's runs, one after the other in each round, so that other load meets all."""
    runs = [_run(bundle) for bundle in bundles]
    taken: list[list[float]] = [[] for _ in runs]
    for number in range(WARM_UP + RUNS):
        for run, times in zip(runs, taken):
            spent = timed_ms(run)
            if number >= WARM_UP:
                times.append(spent)
    return [statistics.median(times) for times in taken]


def _run(bundle: Bundle) -> Callable[[], object]:
    file, given = load(bundle.model_file, ONE_THREAD), bundle.golden()[0]
    return lambda: file.run(given)
