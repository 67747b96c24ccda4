"""Which values a graph's tensors take on data: a histogram for each, filled picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgekit.compress.range_histogram import RangeHistogram
from edgekit.errors import UsageError

Inputs = Tensor | Sequence[Tensor]
Observe = Callable[[Node, Tensor], None]


class Watched(Interpreter):
    """Runs a graph and shows the values of some nodes; a value that nobody reads again is let go."""

    def __init__(self, module: GraphModule, nodes: Collection[Node], observe: Observe) -> None:
        super().__init__(module)
        self.watched = frozenset(nodes)
        self.observe = observe

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self.watched:
            self.observe(n, value)
        return value


def as_arguments(inputs: Inputs) -> tuple[Tensor, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def histograms(
    module: GraphModule, nodes: Collection[Node], data: Iterable[Inputs]
) -> dict[Node, RangeHistogram]:
    """Of every node, over all of `data`. Memory is that of one run and does not grow with the data.

    Raises UsageError for data that is empty, or that the network makes something infinite of.
    """
    found = {node: RangeHistogram() for node in nodes}

    def observe(node: Node, value: Tensor) -> None:
        if not bool(torch.isfinite(value).all()):
            raise UsageError(
                f"The network makes NaN or infinity of the calibration data ('{node.name}'); look at its "
                "weights and at how the data is normalised."
            )
        found[node].add(value)

    watched = Watched(module, nodes, observe)
    count = 0
    with torch.inference_mode():
        for count, inputs in enumerate(data, start=1):  # noqa: B007
            watched.run(*as_arguments(inputs))
    if not count:
        raise UsageError("There is no data to calibrate with; give at least one input.")
    return found
