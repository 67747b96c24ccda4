"""A graph in floats and in codes at once, operator by operator over a few inputs.

A layer sees what the layers before it, in codes already, make of the inputs, beside what it should give: that
is what a repair of one layer after the other needs, and one pass is enough for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from edgekit.compress.decided import LayerCodes
from edgekit.compress.places import Layer
from edgekit.program.affine import Affine
from edgekit.program.editing import GraphEditor

Values = list[Any]
"""Of one node, for each input."""
Repair = Callable[[Layer, LayerCodes, list[Tensor], list[Tensor]], LayerCodes]
"""Of a layer with its codes, its inputs as the codes before it give them, and its results in floats."""


def repaired(
    edit: GraphEditor,
    layers: Mapping[Node, tuple[Layer, LayerCodes]],
    values: Mapping[Node, Affine],
    data: Sequence[tuple[Tensor, ...]],
    repair: Repair,
) -> dict[Node, LayerCodes]:
    """The codes of all layers, repaired in the graph's order. `data` is held, with what lives of the graph."""
    found: dict[Node, LayerCodes] = {}
    floats: dict[Node, Values] = {}
    codes: dict[Node, Values] = {}
    placeholders = iter(range(len(edit.program.inputs)))
    read_last = _read_last(edit.graph)
    for node in edit.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            place = next(placeholders)
            given = [inputs[place] for inputs in data]
            floats[node], codes[node] = given, given
        elif node.op == "get_attr":
            floats[node] = codes[node] = [attrgetter(str(node.target))(edit.module)] * len(data)
        else:
            floats[node] = _computed(node, floats, len(data), {})
            written: dict[int, Tensor | None] = {}
            if node in layers:
                layer, before = layers[node]
                found[node] = repair(layer, before, codes[node.args[0]], floats[node])  # type: ignore[index]
                written = {1: found[node].weight.values(), 2: found[node].bias}
            codes[node] = _computed(node, codes, len(data), written)
        if node in values:
            codes[node] = [values[node].rounded(value) for value in codes[node]]
        for source in read_last.get(node, ()):
            del floats[source], codes[source]
    return found


def _read_last(graph: Graph) -> dict[Node, list[Node]]:
    """Nodes by the last one that reads them."""
    last = {source: node for node in graph.nodes for source in node.all_input_nodes}
    found: dict[Node, list[Node]] = {}
    for source, node in last.items():
        found.setdefault(node, []).append(source)
    return found


def _computed(
    node: Node, held: Mapping[Node, Values], count: int, written: Mapping[int, Tensor | None]
) -> Values:
    """Of each input; `written` are other arguments, by place."""
    arguments = list(node.args) + [None] * (1 + max(written, default=-1) - len(node.args))
    for place, value in written.items():
        arguments[place] = value
    assert callable(node.target)
    results = []
    with torch.no_grad():
        for index in range(count):
            at_this = partial(_held, held, index)
            args, kwargs = map_arg((tuple(arguments), node.kwargs), at_this)
            results.append(node.target(*args, **kwargs))
    return results


def _held(held: Mapping[Node, Values], index: int, node: Node) -> Any:
    return held[node][index]
