"""What a host holds beside the run of a window: whole tensors, and lines that streams keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node

from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, storages
from edgekit.plan.network import Network, network_of
from edgekit.plan.plan import Stage
from edgekit.program.program import Program

aten = torch.ops.aten
Counts = npt.NDArray[np.int64]


def stored_beside(stage: Stage) -> list[int]:
    """For each model: the most bytes of kept lines that lie beside a run which does not take them."""
    stored: dict[tuple[int, str], int] = {}
    most = [0] * len(stage.models)
    for window in stage.windows:
        model = stage.models[window.model]
        if not stage.strips_take_turns:
            stored = {key: size for key, size in stored.items() if key[0] == window.strip}
        taken = {(window.strip, port.state) for port in model.before}
        beside = sum(size for key, size in stored.items() if key not in taken)
        most[window.model] = max(most[window.model], beside)
        stored |= {(window.strip, port.state): port.nbytes for port in model.after}
    return most


@dataclass(frozen=True)
class StageBytes:
    """Predicted, of one stage."""

    peak: int
    """Everything alive: whole tensors, kept lines, and the run."""
    run: int
    """What the largest run of a model holds by itself."""


def stream_bytes(stage: Stage, programs: Sequence[Program], whole_bytes: int) -> StageBytes:
    """`whole_bytes` are those of whole tensors that are held beside the stream."""
    runs = [_run_bytes(program) for program in programs]
    fullest = max(run + kept for run, kept in zip(runs, stored_beside(stage), strict=True))
    return StageBytes(whole_bytes + fullest, max(runs))


def _run_bytes(program: Program) -> int:
    """Peak of one run, whose inputs the host holds to its end."""
    network = network_of(program)
    model = MemoryModel()
    doors = (*network.inputs, *network.outputs)
    sizes = [prod(shape(node)) * model.bytes_per_element(node) for node in network.nodes]
    live = storages(network, network.nodes, doors, model).live_bytes(
        np.array(sizes, dtype=np.float64)[:, None]
    )[:, 0]
    return int((live + reordered_bytes(network, sizes)).max())


def reordered_bytes(network: Network, sizes: Sequence[int]) -> Counts:
    """What each step needs for copies in another layout, beside its input and output.

    onnxruntime computes convolutions on blocks of channels. An input in plain order is copied into
    blocks first, and an output that somebody reads in plain order is copied back.
    """
    extra = np.zeros(len(network.nodes), dtype=np.int64)
    for step, node in enumerate(network.nodes):
        source = node.args[0] if node.target is aten.conv2d.default else None
        if not isinstance(source, Node) or min(shape(source)[1], shape(node)[1]) < FEWEST_CHANNELS:
            continue
        given, made = sizes[network.position[source]], sizes[step]
        goes_on = any(network.position[reader] > step for reader in network.readers[source])
        if source.target not in IN_BLOCKS:
            extra[step] = given if goes_on else max(0, given - made)
        if any(reader.target not in IN_BLOCKS for reader in network.readers[node]):
            extra[step] = max(extra[step], made - given)
    return extra


FEWEST_CHANNELS = 16
IN_BLOCKS = {
    aten.conv2d.default, aten.max_pool2d.default, aten.avg_pool2d.default, aten.relu.default,
    aten.add.Tensor, aten.upsample_nearest2d.vec, aten.clamp.default, aten.hardtanh.default,
    aten.sigmoid.default,
}  # fmt: skip
"""Operators that onnxruntime computes on blocks of channels, or as part of a convolution."""
