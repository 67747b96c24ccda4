"""What a quantisation has decided about a graph, before it is written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from edgekit.compress.low_rank import LowRank
from edgekit.compress.places import Layer
from edgekit.model import Codes
from edgekit.program.affine import Affine, WeightCodes
from edgekit.program.editing import GraphEditor


@dataclass(frozen=True)
class LayerCodes:
    weight: WeightCodes
    bias: Tensor | None
    """In floats."""
    branch: LowRank | None = None
    """In floats beside the codes."""


@dataclass(frozen=True)
class Decided:
    """A graph in floats with all that is decided about its codes."""

    edit: GraphEditor
    layers: tuple[Layer, ...]
    codes: Mapping[Node, LayerCodes]
    """By layer."""
    values: Mapping[Node, Affine]
    """Activations that become codes, in the graph's order."""
    summary: Codes
