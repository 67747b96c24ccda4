"""A layer's results with other weights than its own."""

from __future__ import annotations

from torch import Tensor

from edgekit.compress.places import Layer
from edgekit.program.editing import arguments_of


def computed(layer: Layer, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    node = layer.node
    assert callable(node.target)
    result: Tensor = node.target(given, weight, bias, *arguments_of(node)[3:], **node.kwargs)
    return result


def activated(layer: Layer, result: Tensor) -> Tensor:
    """Behind the activation that is part of the layer's kernel."""
    if layer.result is layer.node:
        return result
    assert callable(layer.result.target)
    cut: Tensor = layer.result.target(
        result, *arguments_of(layer.result)[1:], **layer.result.kwargs
    )
    return cut
