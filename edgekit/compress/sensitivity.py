"""What each layer's bits and each value's codes do to the outputs, alone, with everything else in floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from edgekit.compress.decided import LayerCodes
from edgekit.compress.layer_results import computed
from edgekit.compress.output_error import Judge, OutputError
from edgekit.compress.places import Layer, quantised_values
from edgekit.compress.quantise import Prepared, codes_of, is_integer
from edgekit.compress.quantise_options import QuantiseOptions
from edgekit.compress.statistics_restored import restored

Front = dict[Node, Any]
"""Values that are alive at one place of the graph."""


@dataclass(frozen=True)
class LayerSensitivity:
    name: str
    macs: int
    shape: tuple[int, ...]
    """Of its weight."""
    channels: int
    """That it gives."""
    errors: Mapping[int, OutputError]
    """By bits of the weight."""
    values: frozenset[str]
    """That have to be codes if the layer is to be an integer kernel; empty where there is none for it."""


@dataclass(frozen=True)
class Sensitivity:
    layers: tuple[LayerSensitivity, ...]
    values: Mapping[str, OutputError]
    """Of values in codes, by name; what shares a scale counts once."""


def sensitivity(
    prepared: Prepared,
    bits: Sequence[int],
    judge: Judge,
    options: QuantiseOptions,
    inputs: int,
    progress: Callable[[str], None],
) -> Sensitivity:
    """Of all layers that may have codes, over the first `inputs` that were kept for a repair.

    One pass over the graph: at each layer and value, the rest of the graph runs once for each choice.
    """
    scan = _Scan(prepared, prepared.kept[:inputs])
    wanted = scan.finished(scan.fronts_at_start(), 0)
    layers = {layer.node: layer for layer in prepared.layers}
    roots = set(prepared.roots.values())
    found: list[LayerSensitivity] = []
    values: dict[str, OutputError] = {}
    fronts = scan.fronts_at_start()
    for position, node in enumerate(scan.nodes):
        given = [front.get(node.args[0]) if node.args else None for front in fronts]  # type: ignore[call-overload]
        scan.advance(fronts, node)
        made = [front[node] for front in fronts]
        if node in layers:
            layer = layers[node]
            progress(f"sensitivity of {layer.name} ({len(found) + 1} of {len(layers)})")
            errors = {}
            for width in bits:
                codes = codes_of(prepared.edit, layer, width, options)
                if options.repair != "nothing":
                    codes = restored(layer, codes, given, made)  # type: ignore[arg-type]
                changed = [_result(layer, x, codes) for x in given]  # type: ignore[arg-type]
                errors[width] = judge(wanted, scan.changed(fronts, node, changed, position))
            found.append(_of_layer(prepared, layer, errors, options))
        if node in roots:
            rounded = [prepared.values[node].rounded(value) for value in made]
            values[node.name] = judge(wanted, scan.changed(fronts, node, rounded, position))
        scan.let_go(fronts, node)
    return Sensitivity(tuple(found), values)


def _of_layer(
    prepared: Prepared, layer: Layer, errors: Mapping[int, OutputError], options: QuantiseOptions
) -> LayerSensitivity:
    needed: frozenset[str] = frozenset()
    if options.activation_bits is not None and is_integer(layer, options):
        own = quantised_values(prepared.edit.graph, [layer])
        needed = frozenset(prepared.roots[node].name for node in own)
    weight = prepared.edit.constant_value(layer.node.args[1])
    assert weight is not None
    shape = tuple(weight.shape)
    return LayerSensitivity(layer.name, layer.macs, shape, shape[layer.axis], errors, needed)


def _result(layer: Layer, given: Tensor, codes: LayerCodes) -> Tensor:
    return computed(layer, given, codes.weight.values(), codes.bias)


class _Scan:
    """A graph that is run from any place on, for several inputs."""

    def __init__(self, prepared: Prepared, data: Sequence[tuple[Tensor, ...]]) -> None:
        self.edit, self.data = prepared.edit, data
        self.nodes = [node for node in self.edit.graph.nodes if node.op != "output"]
        (self.output,) = self.edit.graph.find_nodes(op="output")
        last: dict[Node, Node] = {}
        for node in (*self.nodes, self.output):
            last |= dict.fromkeys(node.all_input_nodes, node)
        self.over: dict[Node, list[Node]] = {}
        for source, reader in last.items():
            self.over.setdefault(reader, []).append(source)

    def fronts_at_start(self) -> list[Front]:
        places = [node for node in self.nodes if node.op == "placeholder"]
        return [dict(zip(places, inputs, strict=True)) for inputs in self.data]

    @torch.no_grad()
    def advance(self, fronts: Sequence[Front], node: Node) -> None:
        if node.op == "get_attr":
            value = attrgetter(str(node.target))(self.edit.module)
            for front in fronts:
                front[node] = value
        elif node.op != "placeholder":
            assert callable(node.target)
            for front in fronts:
                args, kwargs = map_arg((node.args, node.kwargs), front.__getitem__)
                front[node] = node.target(*args, **kwargs)

    def let_go(self, fronts: Sequence[Front], node: Node) -> None:
        for source in self.over.get(node, ()):
            for front in fronts:
                del front[source]

    def changed(
        self, fronts: Sequence[Front], node: Node, results: Sequence[Tensor], position: int
    ) -> list[list[Tensor]]:
        """Outputs with other results of the node at `position`."""
        own = [{**front, node: result} for front, result in zip(fronts, results, strict=True)]
        self.let_go(own, node)
        return self.finished(own, position + 1)

    def finished(self, fronts: Sequence[Front], start: int) -> list[list[Tensor]]:
        for node in self.nodes[start:]:
            self.advance(fronts, node)
            self.let_go(fronts, node)
        results: Any = self.output.args[0]
        kept = list(results) if isinstance(results, tuple | list) else [results]
        return [[front[node] for node in kept] for front in fronts]
