"""A feed-forward network in two: what comes before the output of a named layer, and what comes after.

Only the forwards of the modules around the layer are traced (torch.fx); all others are kept whole, with
their parameters, their state and their paths, so that both parts can still be trained.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import fx, nn

from edgekit.errors import UsageError, first_line


class Cut(NamedTuple):
    """Both parts share the network's modules, at the paths that they have in it."""

    front: nn.Module
    """From the network's input to the layer's output."""
    back: nn.Module
    """From the layer's output to the network's."""


def cut(network: nn.Module, layer: str) -> Cut:
    """Cut behind the module at the path `layer`, such as "features.6".

    Raises UsageError for a path that does not exist, a layer that does not run exactly once, a
    forward around it that cannot be followed, and where more than one tensor crosses the cut; the
    message names the nearest layers where one does.
    """
    _require_path(network, layer)
    graph = _trace(network, layer)
    place = _place(network, graph, layer)
    before = _needed_for(place)
    crossing = _crossing(graph, place, before)
    if crossing:
        raise UsageError(
            f"{_kind(network)} cannot be cut behind '{layer}': beside its output, "
            f"{_listed(crossing)} would have to cross the cut as well; {_nearest(network, layer)}"
        )
    return Cut(_front(network, graph, place, before), _back(network, graph, place, before))


def layers_to_cut_at(network: nn.Module) -> list[str]:
    """The paths behind which exactly one tensor crosses, in the order of definition."""
    return [path for path, _ in network.named_modules() if path and _is_clean(network, path)]


def _is_clean(network: nn.Module, layer: str) -> bool:
    try:
        graph = _trace(network, layer)
        place = _place(network, graph, layer)
    except UsageError:
        return False
    return not _crossing(graph, place, _needed_for(place))


class _Around(fx.Tracer):
    """Follows the forwards of the modules that hold the layer, and keeps all others whole."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._layer.startswith(f"{module_qualified_name}.")


def _trace(network: nn.Module, layer: str) -> fx.Graph:
    try:
        return _Around(layer).trace(network)
    except Exception as error:  # the network's own code runs on proxies: anything can be raised
        raise UsageError(
            f"{_kind(network)} cannot be cut behind '{layer}': the forward around that layer branches on "
            f"values or shapes, which tracing cannot follow ({first_line(error)})."
        ) from error


def _require_path(network: nn.Module, layer: str) -> None:
    known = [path for path, _ in network.named_modules() if path]
    if layer in known:
        return
    near = difflib.get_close_matches(layer, known, n=3, cutoff=0.5)
    near = near or [path for path in known if "." not in path]
    raise UsageError(
        f"{_kind(network)} has no layer '{layer}' to cut at; the nearest: {', '.join(near)}."
    )


def _place(network: nn.Module, graph: fx.Graph, layer: str) -> fx.Node:
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        raise UsageError(
            f"{_kind(network)} cannot be cut behind '{layer}', which runs {len(calls)} times; name a "
            "layer that runs once."
        )
    found: fx.Node = calls[0]
    return found


def _needed_for(place: fx.Node) -> set[fx.Node]:
    found, open_nodes = {place}, [place]
    while open_nodes:
        for node in open_nodes.pop().all_input_nodes:
            if node not in found:
                found.add(node)
                open_nodes.append(node)
    return found


def _crossing(graph: fx.Graph, place: fx.Node, before: set[fx.Node]) -> list[fx.Node]:
    """Values of the front, other than the layer's output, that the back needs too."""
    return [
        node
        for node in graph.nodes
        if node in before
        and node is not place
        and node.op != "get_attr"  # a constant: both parts can hold it
        and any(user not in before for user in node.users)
    ]


def _front(network: nn.Module, graph: fx.Graph, place: fx.Node, before: set[fx.Node]) -> nn.Module:
    copied = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in before:
            made[node] = copied.node_copy(node, made.__getitem__)
    copied.output(made[place])
    return fx.GraphModule(network, copied, "Front")


def _back(network: nn.Module, graph: fx.Graph, place: fx.Node, before: set[fx.Node]) -> nn.Module:
    copied = fx.Graph()
    made: dict[fx.Node, fx.Node] = {place: copied.placeholder("features")}
    for node in graph.nodes:
        if node.op == "placeholder" or (node in before and node.op != "get_attr"):
            continue
        made[node] = copied.node_copy(node, _of(made))
    copied.lint()
    return fx.GraphModule(network, copied, "Back")


def _of(made: dict[fx.Node, fx.Node]) -> Callable[[Any], fx.Node]:
    return made.__getitem__


def _listed(nodes: Iterable[fx.Node]) -> str:
    return ", ".join(
        f"the output of '{node.target}'" if node.op == "call_module"
        else "the network's input" if node.op == "placeholder"
        else f"'{node.name}'"
        for node in nodes
    )  # fmt: skip


def _nearest(network: nn.Module, layer: str) -> str:
    paths = [path for path, _ in network.named_modules() if path]
    at = paths.index(layer)
    before = next((path for path in reversed(paths[:at]) if _is_clean(network, path)), None)
    after = next((path for path in paths[at + 1 :] if _is_clean(network, path)), None)
    near = [f"'{path}'" for path in (before, after) if path]
    return (
        f"one tensor crosses behind {' or '.join(near)}." if near else "no layer is free of that."
    )


def _kind(network: nn.Module) -> str:
    return type(network).__name__
