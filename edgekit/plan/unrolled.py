"""A planned network as one Program: every tile's operators side by side, joined at the end.

Any runtime runs it, tile after tile in the order of the graph. It pays with nodes, and with the
tiles of a result that are alive beside the joined result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network
from edgekit.plan.path import Found, Stretch
from edgekit.plan.region import Region, Span, whole
from edgekit.plan.stages import strips
from edgekit.plan.tape import GraphTape
from edgekit.program.capture import capture_graph
from edgekit.program.program import Program

aten = torch.ops.aten


def unrolled(network: Network, found: Found, program: Program) -> Program:
    """Inputs, outputs and results are those of `program`."""
    tape = GraphTape(network.edit)
    for node, spec in zip(network.inputs, program.inputs, strict=True):
        placeholder = tape.placeholder(spec.name, spec.shape, node.meta["val"].dtype)
        tape.hold(node, placeholder, whole(spec.shape))
    for stretch in found.stretches:
        value = _stretch(network, stretch, tape)
        tape.hold(stretch.result, value, whole(shape(stretch.result)))
    module = tape.finish(*(tape.held[node][0] for node in network.outputs))
    return capture_graph(module, program.inputs, program.outputs)


def _stretch(network: Network, stretch: Stretch, tape: GraphTape) -> Any:
    parts: dict[Region, Any] = {}
    source = tape.held[stretch.source]
    for stream in strips(network, stretch):
        tape.held = {stretch.source: source}
        for step in range(stream.count):
            stream.run(tape, step)
            box = stream.written(step)
            parts[box] = tape.operand(stretch.over, box)
            stream.forget(tape, step)
    if stretch.over is stretch.result:
        return _assembled(tape, parts, range(len(shape(stretch.over))))
    shares = [
        _share_of_mean(stretch.result, part, tape, shape(stretch.over)) for part in parts.values()
    ]
    return reduce(lambda total, share: tape.call(aten.add.Tensor, total, share), shares)


def _assembled(tape: GraphTape, parts: Mapping[Region, Any], dims: Sequence[int]) -> Any:
    """Boxes that fill a tensor, joined along its last dimension first."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    dim, *others = dims
    slabs: dict[Span, dict[Region, Any]] = {}
    for box, value in sorted(parts.items(), key=lambda part: part[0]):
        slabs.setdefault(box[dim], {})[box] = value
    joined = [_assembled(tape, slab, others) for slab in slabs.values()]
    return joined[0] if len(joined) == 1 else tape.call(aten.cat.default, joined, dim)


def _share_of_mean(result: Node, part: Any, tape: GraphTape, sizes: tuple[int, ...]) -> Any:
    rank = len(sizes)
    kept = len(shape(result)) == rank
    local = tape.sizes(part)
    mean = tape.call(aten.mean.dim, part, [rank - 2, rank - 1], kept)
    share = local[-2] * local[-1] / (sizes[-2] * sizes[-1])
    return tape.call(aten.mul.Tensor, mean, share)
