"""A planned network as one Program: every tile's operators side by side, joined at the end.

Any runtime runs it, tile after tile in the order of the graph. It pays with nodes, and with the
tiles of a result that are alive beside the joined result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network, boxes
from edgekit.plan.path import WHOLE, Found, Stretch
from edgekit.plan.region import whole
from edgekit.plan.stages import tiles
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
    parts = []
    for box in tiles(stretch):
        tape.run(boxes(network, (stretch.source,), {stretch.over: box}))
        part = tape.operand(stretch.over, box)
        if stretch.over is not stretch.result:
            part = _share_of_mean(stretch.result, part, tape, shape(stretch.over))
        parts.append(part)
    if stretch.tiling == WHOLE:
        return parts[0]
    if stretch.over is not stretch.result:
        total = parts[0]
        for part in parts[1:]:
            total = tape.call(aten.add.Tensor, total, part)
        return total
    across = min(stretch.tiling.columns, shape(stretch.over)[-1])
    rank = len(shape(stretch.over))
    rows = [_joined(tape, parts[at : at + across], rank - 1) for at in range(0, len(parts), across)]
    return _joined(tape, rows, rank - 2)


def _joined(tape: GraphTape, parts: list[Any], dim: int) -> Any:
    return parts[0] if len(parts) == 1 else tape.call(aten.cat.default, parts, dim)


def _share_of_mean(result: Node, part: Any, tape: GraphTape, sizes: tuple[int, ...]) -> Any:
    rank = len(sizes)
    kept = len(shape(result)) == rank
    local = tape.sizes(part)
    mean = tape.call(aten.mean.dim, part, [rank - 2, rank - 1], kept)
    share = local[-2] * local[-1] / (sizes[-2] * sizes[-1])
    return tape.call(aten.mul.Tensor, mean, share)
