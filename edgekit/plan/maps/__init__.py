"""Index maps: which part of its inputs an operator needs for a part of its output."""

from __future__ import annotations

from torch.fx import Node

from edgekit.plan.maps.index_map import IndexMap, Whole
from edgekit.plan.maps.joining import JOINING
from edgekit.plan.maps.matrix import MATRIX
from edgekit.plan.maps.padding import PADDING
from edgekit.plan.maps.pointwise import POINTWISE
from edgekit.plan.maps.reshaping import RESHAPING
from edgekit.plan.maps.resizing import RESIZING
from edgekit.plan.maps.windowed import WINDOWED

MAPS: dict[object, IndexMap] = {
    **POINTWISE, **WINDOWED, **RESIZING, **RESHAPING, **JOINING, **PADDING, **MATRIX
}  # fmt: skip
WHOLE = Whole()


def map_of(node: Node) -> IndexMap:
    """The operator's map; one that is not known needs and computes everything: a barrier."""
    mapping = MAPS.get(node.target, WHOLE)
    return mapping if mapping.applies(node) else WHOLE


def is_known(node: Node) -> bool:
    return map_of(node) is not WHOLE
