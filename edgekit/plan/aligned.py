"""Tiles a little larger than they need be, where that saves cropping what is enlarged inside them.

An enlargement by r gives whole cells of r x r. Where a tile asks for a part of one, the rest is
cropped, and what it is joined to is cropped as well. A tile that begins and ends a few pixels
further out can have whole cells everywhere; neighbours then overlap, and agree where they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.maps import map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import macs_per_element
from edgekit.plan.network import Boxes, Network, boxes
from edgekit.plan.region import Region, elements

CROP_MACS = 45.0
"""Cropping an element takes the time of so many multiply-accumulates (benchmarks/plan_costs.py)."""
MOST_PIXELS = 16
"""A tile grows by less on each side. Cells of all enlargements together may be larger."""
SMALLEST = 4
"""Tiles of fewer cells are left as they are."""
Costs = npt.NDArray[np.float64]


def aligned(
    network: Network, over: Node, dim: int, spans: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Spans of tiles along `dim` of `over`, -2 or -1: from cell to cell, so that few kinds of tiles
    differ, and widened where less is cropped than is added.
    """
    most = min(_cell(network, over, dim), MOST_PIXELS)
    size = shape(over)[dim]
    if most == 1 or len(spans) == 1 or size < SMALLEST * most * len(spans):
        return list(spans)
    spans = _from_cell_to_cell(spans, most)
    start, stop = (np.repeat(np.array(bounds), most) for bounds in zip(*spans, strict=True))
    more = np.tile(np.arange(most), len(spans))
    # Both sides at once, each with the other one as it is.
    starts = np.concatenate([np.maximum(start - more, 0), start])
    stops = np.concatenate([stop, np.minimum(stop + more, size)])
    region = tuple(
        (starts, stops) if position == dim % len(shape(over)) else (0, length)
        for position, length in enumerate(shape(over))
    )
    costs = _costs(boxes(network, (), {over: region}), dim).reshape(2, len(spans), most)
    before, after = costs.argmin(axis=2)
    return [
        (max(first - int(a), 0), min(last + int(b), size))
        for (first, last), a, b in zip(spans, before, after, strict=True)
    ]


def _from_cell_to_cell(spans: Sequence[tuple[int, int]], cell: int) -> list[tuple[int, int]]:
    bounds = [round(start / cell) * cell for start, _ in spans]
    return list(pairwise([*bounds, spans[-1][1]]))


def _cell(network: Network, over: Node, dim: int) -> int:
    """Of `over`: in how many pixels cells of all enlargements before it fit, at most."""
    found = 1
    for node in network.between((), [over]):
        found *= map_of(node).cell(node, dim)
    return found


def _costs(found: Boxes, dim: int) -> Costs:
    """For each box: multiply-accumulates, and what crops are worth, along one dimension."""
    total: Costs = np.zeros(1)
    for node in found.order:
        region = found.computed[node]
        count = np.asarray(elements(region), dtype=np.float64)
        total = total + count * (macs_per_element(node) + CROP_MACS * _crops(node, region, dim))
    return total


def _crops(node: Node, region: Region, dim: int) -> Costs:
    """How many of a box's two sides lie within a cell, as a share."""
    cell = map_of(node).cell(node, dim)
    if cell == 1:
        return np.zeros(1)
    within = [np.not_equal(np.asarray(bound) % cell, 0) for bound in region[dim]]
    share: Costs = np.mean(np.stack(np.broadcast_arrays(*within)), axis=0)
    return share
