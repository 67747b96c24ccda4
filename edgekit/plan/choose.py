"""What a user asks of a plan, and the plan that answers it."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

from edgekit.errors import UsageError
from edgekit.plan.maps import is_known
from edgekit.plan.memory import MemoryModel
from edgekit.plan.network import Network
from edgekit.plan.search import Found, Stretches, Tiling
from edgekit.program.source import source_line


@dataclass(frozen=True)
class Request:
    """Exactly one of the two is set."""

    budget_bytes: int | None = None
    """Live activations, the network's input and output included."""
    tiles: Tiling | None = None
    """This grid, over the stretch where it lowers the peak most."""


def choose(network: Network, request: Request, element_bytes: int) -> Found:
    """The plan with the least extra work under a budget, or the best use of a given grid.

    Raises UsageError for a network that cannot be cut and for a budget below what any plan needs.
    """
    require_cuts(network)
    model = MemoryModel(element_bytes=element_bytes)
    if request.tiles is not None:
        return Stretches(network, model, streams=False, only=request.tiles).least_memory()
    assert request.budget_bytes is not None
    stretches = Stretches(network, model, streams=False)
    found = stretches.least_work(request.budget_bytes)
    if found is None:
        least = stretches.least_memory()
        raise UsageError(
            f"No plan fits into {in_units(request.budget_bytes)}: the least is "
            f"{in_units(least.peak_bytes)}, set by {described(network, least.worst.worst)} between "
            f"'{least.worst.source.name}' and '{least.worst.result.name}'."
        )
    return found


def require_cuts(network: Network) -> None:
    """Raises UsageError where planning has nothing to hold on to."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UsageError(
            f"Memory plans need a network of one input and one output; this one has "
            f"{len(network.inputs)} and {len(network.outputs)}."
        )


def described(network: Network, name: str) -> str:
    """An operator by name, with its source line."""
    node = next(node for node in network.nodes if node.name == name)
    kind = "the input" if node.op == "placeholder" else str(node.target).removeprefix("aten.")
    where = source_line(node)
    return f"{kind.split('.')[0]} '{name}'" + (f" ({where})" if where else "")


def barriers(network: Network) -> list[Node]:
    """Operators that no index map knows: they are computed whole wherever they stand."""
    return [node for node in network.nodes if node.op != "placeholder" and not is_known(node)]


def in_units(count: float) -> str:
    """Bytes as people read them: 171.5 KiB, 37.2 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
