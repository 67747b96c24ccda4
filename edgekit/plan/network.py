"""A Program's graph as planning sees it: computed tensors in order, weights folded away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.fx import Graph, Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import is_constant
from edgekit.plan.parts import name_parts
from edgekit.plan.region import NEVER, Region, Span, hull, nothing_where
from edgekit.program.editing import GraphEditor
from edgekit.program.program import Program
from edgekit.program.rule import rewrite
from edgekit.program.rules import rules_before_planning


@dataclass(frozen=True)
class Network:
    """Computed tensors (inputs included) in execution order, with who reads them."""

    edit: GraphEditor
    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    readers: dict[Node, tuple[Node, ...]] = field(repr=False)
    position: dict[Node, int] = field(repr=False)

    def between(self, sources: Iterable[Node], results: Iterable[Node]) -> tuple[Node, ...]:
        """The nodes that compute `results` from `sources`, in order, without the sources."""
        given = set(sources)
        wanted: set[Node] = set()
        open_ends = [node for node in results if node not in given]
        while open_ends:
            node = open_ends.pop()
            if node in wanted:
                continue
            wanted.add(node)
            open_ends += [
                source
                for source in node.all_input_nodes
                if not is_constant(source) and source not in given and source not in wanted
            ]
        return tuple(sorted(wanted, key=self.position.__getitem__))

    def cuts(self) -> list[Node]:
        """Tensors that alone carry everything computed before them to everything after them."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            return []
        last_read = {
            node: max((self.position[reader] for reader in self.readers[node]), default=-1)
            for node in self.nodes
        }
        found = []
        reach = -1
        for node in self.nodes:
            if reach <= self.position[node] and not isinstance(node.meta["val"], tuple | list):
                found.append(node)
            reach = max(reach, last_read[node])
        return found


def network_of(program: Program) -> Network:
    """Rewrite as for a file, so that liveness is the file's; name the parts of splits; list."""
    edit = GraphEditor(rewrite(program, rules_before_planning())[0])
    name_parts(edit)
    return listed(edit)


def listed(edit: GraphEditor) -> Network:
    graph: Graph = edit.graph
    nodes = tuple(
        node
        for node in graph.nodes
        if node.op in ("placeholder", "call_function")
        and _is_tensor(node)
        and not is_constant(node)
    )
    (output,) = graph.find_nodes(op="output")
    results = output.args[0]
    outputs = tuple(results) if isinstance(results, tuple | list) else (results,)
    members = set(nodes)
    return Network(
        edit,
        nodes,
        tuple(node for node in nodes if node.op == "placeholder"),
        outputs,
        {node: tuple(user for user in node.users if user in members) for node in nodes},
        {node: index for index, node in enumerate(nodes)},
    )


def _is_tensor(node: Node) -> bool:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    return isinstance(first, Tensor)


@dataclass(frozen=True)
class Boxes:
    """For every node between two cuts: what is computed of it, for one box of the result."""

    order: tuple[Node, ...]
    """Without parts of joined tensors that the box does not meet."""
    computed: dict[Node, Region]
    read: dict[Node, Region]
    """Of the sources: the box that is read."""
    held: dict[Node, Region]
    """What readers see: as computed, or with the lines that a stream has kept from earlier tiles."""


Fresh = Callable[[Node, Region], Region]
"""Of what tiles hold of a node: what they compute themselves, and no earlier one has."""


def boxes(
    network: Network,
    sources: Iterable[Node],
    results: dict[Node, Region],
    cached: Collection[Node] | Fresh = (),
) -> Boxes:
    """Walk backwards from boxes of the results to boxes of everything they need.

    Tiles that follow each other as a stream keep what they have computed of `cached` nodes, so that
    each computes only the lines that the one before has not. Several streams at once have a
    function instead.
    """
    fresh = cached if callable(cached) else _of_one_stream(cached)
    needed = network.between(sources, results)
    asked: dict[Node, list[Region]] = {node: [region] for node, region in results.items()}
    computed: dict[Node, Region] = {}
    held: dict[Node, Region] = {}
    order: list[Node] = []
    for node in reversed(needed):
        if node not in asked:
            continue
        order.append(node)
        held[node] = computed[node] = hull(asked[node])
        if node.op == "placeholder":
            continue
        mapping = map_of(node)
        held[node] = computed[node] = mapping.computed(node, hull(asked[node]))
        computed[node] = fresh(node, held[node])
        idle = _idle(computed[node])
        for source, region in mapping.needs(node, computed[node]).items():
            asked.setdefault(source, []).append(
                region if idle is None else nothing_where(idle, region)
            )
    read = {source: hull(asked[source]) for source in sources if source in asked}
    return Boxes(tuple(reversed(order)), computed, read, held)


def _of_one_stream(cached: Collection[Node]) -> Fresh:
    def fresh(node: Node, held: Region) -> Region:
        return tuple(_not_yet(span) for span in held) if node in cached else held

    return fresh


def _not_yet(span: Span) -> Span:
    """Of a span per tile: what lies behind all that earlier tiles asked for."""
    start, stop = span
    if not isinstance(stop, np.ndarray):
        return span
    before = np.concatenate([[-NEVER], np.maximum.accumulate(stop)[:-1]])
    first = np.maximum(start, before)
    return first, np.maximum(stop, first)


def _idle(region: Region) -> npt.NDArray[np.bool_] | None:
    """Tiles in which nothing of the region is computed."""
    idle = None
    for start, stop in region:
        empty = np.asarray(stop <= start)
        if empty.any():
            idle = empty if idle is None else idle | empty
    return idle
