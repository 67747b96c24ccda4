"""What a user asks of a plan, and the plan that answers it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.errors import UsageError
from edgekit.plan.memory import MemoryModel
from edgekit.plan.network import Network
from edgekit.plan.path import Found, Tiling
from edgekit.plan.search import Stretches
from edgekit.program.source import module_path, op_name, source_line


@dataclass(frozen=True)
class Request:
    """A budget, or tiles, or a stream, whose frames may come in tiles as well."""

    budget_bytes: int | None = None
    """Live activations and the output. The input is the caller's, and is not counted."""
    tiles: Tiling | None = None
    """This grid, over the stretch where it lowers the peak most; in a stream, over all of it."""
    stream_frames: int | None = None
    """Run the whole network as a stream that takes as many input frames a step."""
    overlap: int | None = None
    """Instead of keeping lines, give each step so many frames of its neighbours: not exact."""


def requested(
    memory_budget: int | str | None, tiles: str | None, stream: int | None, overlap: int | None
) -> Request | None:
    """What the options ask for together; None for nothing. Raises UsageError."""
    if overlap is not None and (stream is None or tiles is not None):
        raise UsageError("An overlap belongs to a stream without tiles.")
    if memory_budget is not None and (tiles is not None or stream is not None):
        raise UsageError(
            "Give a memory budget or tiles or a stream, not both: the budget chooses for itself."
        )
    if stream is not None:
        require_frames(stream)
    grid = Tiling(*parse_grid(tiles)) if tiles is not None else None
    if grid is not None or stream is not None:
        return Request(tiles=grid, stream_frames=stream, overlap=overlap)
    if memory_budget is None:
        return None
    return Request(
        parse_bytes(memory_budget) if isinstance(memory_budget, str) else int(memory_budget)
    )


def require_frames(stream: int) -> None:
    """Raises UsageError for a stream that takes no frames."""
    if stream < 1:
        raise UsageError(f"A stream takes 1 or more frames a step, and {stream} was given.")


def parse_bytes(text: str) -> int:
    """ "64MB", "64MiB", "21.3kB" or "65536" in bytes. Raises UsageError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([kKMG]?)(i?)B?", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"'{text}' is no amount of memory, such as 64MB, 64MiB or 21.3kB.")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** ("", "K", "M", "G").index(prefix.upper()))


def parse_grid(text: str) -> tuple[int, int]:
    """ "4x4" as rows and columns of tiles. Raises UsageError."""
    rows, cross, columns = text.lower().partition("x")
    if not cross or not all(n.isascii() and n.isdigit() and int(n) for n in (rows, columns)):
        raise UsageError(f"The grid '{text}' is not ROWSxCOLUMNS, such as 4x4.")
    return int(rows), int(columns)


def search_for(network: Network, request: Request) -> Stretches:
    """What plans there are for a request. Elements are counted as float32 whatever the file's
    precision: its doors are float32, and CPU runtimes compute half-precision files in single.

    Raises UsageError for a network that cannot be cut and a grid finer than its images.
    """
    require_cuts(network)
    if request.tiles is not None:
        require_grid(network, request.tiles)
    return Stretches(network, MemoryModel(input_counted=False), only=request.tiles)


def choose(search: Stretches, budget_bytes: int | None) -> Found:
    """The plan with the least extra work under a budget; without one, with the least memory.

    Raises UsageError for a budget below what any plan needs.
    """
    if budget_bytes is None:
        return search.least_memory()
    found = search.least_work(budget_bytes)
    if found is None:
        worst = search.least_memory().worst
        raise UsageError(
            f"No plan fits into {in_units(budget_bytes)}: the floor is "
            f"{in_units(worst.peak_bytes)}, set by {described(search.network, worst.worst)}, between "
            f"'{worst.source.name}' and '{worst.result.name}'."
        )
    return found


def require_cuts(network: Network) -> None:
    """Raises UsageError where planning has nothing to hold on to."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UsageError(
            f"Memory plans need a network of one input and one output, or outputs that differ in their last "
            f"dimension only; this one has {len(network.inputs)} and {len(network.outputs)}."
        )
    if len(network.cuts()) < 2:
        raise UsageError("This network computes nothing between its input and its output.")


def require_grid(network: Network, grid: Tiling) -> None:
    """Raises UsageError for a grid finer than any image of the network."""
    images = [node.meta["val"].shape[-2:] for node in network.cuts() if node.meta["val"].ndim >= 4]
    rows = max((int(height) for height, _ in images), default=1)
    columns = max((int(width) for _, width in images), default=1)
    if grid.rows > rows or grid.columns > columns:
        raise UsageError(
            f"A grid of {grid} is finer than the largest image of this network, {rows}x{columns}."
        )


def described(network: Network, name: str) -> str:
    """An operator by kind, name, module path and source line."""
    node = next(node for node in network.nodes if node.name == name)
    if node.op == "placeholder":
        return f"the input '{name}'"
    where = [part for part in (module_path(node), source_line(node)) if part]
    return f"{op_name(node)} '{name}'" + (f" ({', '.join(where)})" if where else "")


def in_units(count: float) -> str:
    """Bytes as people read them: 512 B, 1372.0 KiB, 37.2 MiB, 1.23 GiB."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < (10240 if unit == "KiB" else 1024):
            return f"{count:.1f} {unit}"
    count /= 1024
    return f"{count:.2f} GiB"
