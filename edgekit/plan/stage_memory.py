"""What a host holds beside the run of a window: whole tensors, and lines that streams keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, storages
from edgekit.plan.network import network_of
from edgekit.plan.plan import Stage
from edgekit.program.program import Program


def stored_beside(stage: Stage) -> list[int]:
    """For each model: the most bytes of kept lines that lie beside a run which does not take them."""
    stored: dict[tuple[int, str], int] = {}
    most = [0] * len(stage.models)
    for window in stage.windows:
        model = stage.models[window.model]
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
    )
    return int(live.max())
