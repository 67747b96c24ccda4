"""In how many pieces a graph runs where some of its nodes run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence


def partitions(reads: Sequence[Sequence[int]], taken: Sequence[bool]) -> int:
    """Pieces of taken nodes, as onnxruntime makes them: whatever can run elsewhere runs first, then all taken ones
    that can, and so on by turns. `reads` are the nodes whose results each node takes, in topological order.
    """
    level = [0] * len(taken)
    for at, sources in enumerate(reads):
        # Odd levels are of taken nodes: a node shares its source's level if both run at the same place.
        least = max((level[source] for source in sources), default=0)
        level[at] = least if least % 2 == taken[at] else least + 1
    return len({level[at] for at, is_taken in enumerate(taken) if is_taken})
