"""Operators that no tile can compute alone, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.fx import Node

from edgekit.plan.maps import is_known, map_of
from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network
from edgekit.plan.region import is_full
from edgekit.program.source import op_name, origin


@dataclass(frozen=True)
class Barrier:
    """An operator that is computed whole wherever it stands."""

    name: str
    operator: str
    source: str
    reason: str


def barriers(network: Network) -> list[Barrier]:
    found = []
    for node in network.nodes:
        if node.op == "placeholder":
            continue
        reason = "" if is_known(node) else "no index map knows it"
        if not reason and _sees_everything(node):
            reason = "it looks at the whole image"
        if reason:
            found.append(Barrier(node.name, op_name(node), origin(node), reason))
    return found


def _sees_everything(node: Node) -> bool:
    """Whether one element in the middle needs all of an input that has two extents or more."""
    middle = tuple((size // 2, size // 2 + 1) for size in shape(node))
    mapping = map_of(node)
    for source, region in mapping.needs(node, mapping.computed(node, middle)).items():
        sizes = shape(source)
        wide = np.flatnonzero(np.array(sizes[1:]) > 1) + 1
        if len(wide) > 1 and all(is_full(region[dim], sizes[dim]) for dim in wide):
            return True
    return False
