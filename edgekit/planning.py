"""Memory plans as a report: what a network needs whole, what a plan makes of it, and at what price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.model import Model, model_of_module
from edgekit.plan.barriers import Barrier, barriers
from edgekit.plan.choose import (
    choose,
    described,
    parse_bytes,
    parse_grid,
    require_cuts,
    require_grid,
)
from edgekit.plan.joined import joined
from edgekit.plan.memory import MemoryModel, Step, Timeline, timeline
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import EVERY, WHOLE, Found, Stretch, Tiling
from edgekit.plan.search import Stretches
from edgekit.plan.stages import runs_within
from edgekit.program.capture import capture, without_torch_warnings

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
OVERHEADS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, float("inf"))
"""Shares of extra work at which the trade of memory for work is shown."""
UNASKED_OVERHEAD = 0.1
"""Extra work that a plan may cost if nobody says what it may."""
NOTABLE_OVERHEAD = 0.1
"""Extra work above which advice on the network's own shape is worth its line."""


@dataclass(frozen=True)
class Floor:
    """The least peak of any plan, and what keeps it there."""

    bytes: int
    operator: str


@dataclass(frozen=True)
class MemoryPlan:
    """What planning found out about one network at one size."""

    network: Network
    whole: Timeline
    found: Found | None
    """None where the network cannot be cut; `why_not` says why."""
    step_bytes: tuple[int, ...]
    """Planned live bytes at each step of `whole`, in the fullest tile."""
    floor: Floor | None
    trade: tuple[Found, ...]
    """Less memory for more work, from none on; empty where a limit was asked for."""
    barriers: tuple[Barrier, ...]
    why_not: str = ""

    @property
    def peak_bytes(self) -> int:
        return self.found.peak_bytes if self.found else self.whole.peak_bytes

    @property
    def overhead(self) -> float:
        """Extra multiply-accumulates as a share of the whole network's."""
        return self.found.overhead if self.found else 0.0

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return runs_within(self.network, self.found) if self.found else ()

    def once(self, stretch: Stretch) -> int:
        """Multiply-accumulates of a stretch that is run at once."""
        position = self.network.position
        steps = self.whole.steps[position[stretch.source] + 1 : position[stretch.result] + 1]
        return sum(step.macs for step in steps)

    @property
    def spans(self) -> tuple[tuple[int, int, str], ...]:
        """First step, last step and tiling of each stretch that does not run at once."""
        position = self.network.position
        return tuple(
            (position[stretch.source], position[stretch.result], str(stretch.tiling))
            for stretch in self.stretches
            if stretch.tiling != WHOLE
        )

    @property
    def steps(self) -> list[tuple[Step, int]]:
        """Each operator, and what is alive at it in the plan."""
        planned = self.step_bytes or [step.live_bytes for step in self.whole.steps]
        return list(zip(self.whole.steps, planned, strict=True))

    @property
    def advice(self) -> str:
        """What would make the plan cheaper, if its tiles compute much of their borders twice."""
        if self.overhead < NOTABLE_OVERHEAD:
            return ""
        extra = {stretch: stretch.macs - self.once(stretch) for stretch in self.stretches}
        worst = max(extra, key=lambda stretch: extra[stretch])
        share = extra[worst] / max(1, sum(extra.values()))
        return (
            f"{share:.0%} of the extra work are overlaps of tiles between '{worst.source.name}' and "
            f"'{worst.result.name}': smaller kernels and fewer blocks there, and larger ones or more "
            "after it, would make them thinner (MCUNetV2 redistributes the receptive field so; the "
            "network must be trained again)."
        )

    def to_json(self) -> dict[str, Any]:
        floor = self.floor
        return {
            "whole_peak_bytes": self.whole.peak_bytes,
            "peak_bytes": self.peak_bytes,
            "mac_overhead": round(self.overhead, 6),
            "macs": self.whole.macs,
            "regions": [
                {
                    "from": stretch.source.name,
                    "to": stretch.result.name,
                    "frames": stretch.tiling.frames,
                    "rows": stretch.tiling.rows,
                    "columns": stretch.tiling.columns,
                    "stream": stretch.tiling.stream or None,
                    "expansions_again": "all"
                    if stretch.tiling.again == EVERY
                    else stretch.tiling.again,
                    "peak_bytes": stretch.peak_bytes,
                    "macs": stretch.macs,
                    "macs_once": self.once(stretch),
                    "operator_at_peak": stretch.worst,
                }
                for stretch in self.stretches
            ],
            "floor": {"bytes": floor.bytes, "operator": floor.operator} if floor else None,
            "alive_at_peak": [
                {"name": name, "shape": list(sizes), "bytes": count}
                for name, sizes, count in self.whole.alive_at_peak
            ],
            "trade": [
                {"peak_bytes": found.peak_bytes, "mac_overhead": round(found.overhead, 6)}
                for found in self.trade
            ],
            "barriers": [vars(barrier) for barrier in self.barriers],
            "why_not": self.why_not or None,
            "advice": self.advice or None,
        }


def memory_plan(
    module: nn.Module | Model,
    example_inputs: Tensor | Sequence[Tensor] = (),
    *,
    elements: str = "fp32",
    depthwise_in_place: bool = False,
    memory_budget: str | int | None = None,
    max_overhead: str | float | None = None,
    tiles: str | None = None,
    streams: bool = True,
) -> MemoryPlan:
    """Plan the activation memory of a module or a loaded Model; see `edgekit plan --help`.

    At most one of `memory_budget` ("64MB", or bytes), `max_overhead` ("10%", or a share) and `tiles`
    ("4x4") may be given; with none, up to 10 % extra work are spent. `elements` says how large an
    element of an activation is: "fp32", "fp16" or "int8".

    Raises:
        ConversionError: the module cannot be captured.
        UsageError: an option cannot be used, or no plan fits into the budget.
    """
    if elements not in ELEMENT_BYTES:
        raise UsageError(f"The elements '{elements}' are not one of {', '.join(ELEMENT_BYTES)}.")
    if sum(limit is not None for limit in (memory_budget, max_overhead, tiles)) > 1:
        raise UsageError("Give one of a memory budget, a maximum overhead and tiles.")
    budget = parse_bytes(memory_budget) if isinstance(memory_budget, str) else memory_budget
    overhead = None if max_overhead is None else parse_share(str(max_overhead))
    grid = Tiling(*parse_grid(tiles)) if tiles is not None else None
    if isinstance(module, Model) and (isinstance(example_inputs, Tensor) or example_inputs):
        raise UsageError("A loaded Model has its own example inputs; leave example_inputs away.")
    model = module if isinstance(module, Model) else model_of_module(module, example_inputs)
    with without_torch_warnings():
        captured = capture(model.module, model.example_inputs, model.inputs, model.outputs)
        network = network_of(joined(captured.program)[0])
    memory = MemoryModel(ELEMENT_BYTES[elements], depthwise_in_place, input_counted=False)
    whole = timeline(network, memory)
    known = tuple(barriers(network))
    try:
        require_cuts(network)
    except UsageError as reason:
        if budget is not None or overhead is not None or grid is not None:
            raise
        return MemoryPlan(network, whole, None, (), None, (), known, str(reason))
    if grid is not None:
        require_grid(network, grid)
    search = Stretches(network, memory, streams=streams, only=grid)
    least = search.least_memory()
    floor = Floor(least.peak_bytes, described(network, least.worst.worst))
    if budget is not None:
        found = choose(search, budget)
    elif grid is not None:
        found = least
    else:
        found = search.least_memory(UNASKED_OVERHEAD if overhead is None else overhead)
    unasked = budget is None and overhead is None and grid is None
    trade = tuple(_trade(search)) if unasked else ()
    return MemoryPlan(network, whole, found, _step_bytes(search, found), floor, trade, known)


def parse_share(text: str, of: str = "extra work") -> float:
    """ "10%" or "0.1" as a share. Raises UsageError."""
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share < float("inf"):
        raise UsageError(f"'{text}' is no share of {of}, such as 10% or 0.1.")
    return share


def _trade(search: Stretches) -> Iterator[Found]:
    least = float("inf")
    for share in OVERHEADS:
        found = search.least_memory(share)
        if found.peak_bytes < least:
            least = found.peak_bytes
            yield found


def _step_bytes(search: Stretches, found: Found) -> tuple[int, ...]:
    position = search.network.position
    live = np.zeros(len(search.network.nodes))
    for stretch in found.stretches:
        first, last = position[stretch.source], position[stretch.result]
        live[first : last + 1] = np.maximum(live[first : last + 1], search.step_bytes(stretch))
    return tuple(round(count) for count in live)
