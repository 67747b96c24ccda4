"""Widths: which groups narrow, and by how much, until the network costs what it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.layers import Costs
from edgekit.compress.pruning.options import PruneOptions

Damages = Mapping[str, Callable[[int], float]]
SEARCH_STEPS = 24


def choices(group: ChannelGroup, options: PruneOptions) -> list[int]:
    """Widths in atoms that a group may have, from its own downwards."""
    step = group.least_step(options.round_to)
    least = max(step, math.ceil(group.atoms * options.least))
    narrower = range(step * ((group.atoms - 1) // step), least - 1, -step)
    return [group.atoms, *narrower]


def allocate(
    groups: Sequence[ChannelGroup], costs: Costs, damages: Damages, options: PruneOptions
) -> dict[str, int]:
    """Greedily: each time the narrowing that saves most for its damage, until the cost is at most `keep`.

    What a narrowing saves depends on the widths of others, so it is looked at anew each time. Ends early
    where nothing can be narrowed further.
    """
    widths = {group.name: group.atoms for group in groups}
    left = {group.name: choices(group, options)[1:] for group in groups}
    cost = costs.total(widths)
    allowed = options.keep * cost
    while cost > allowed:
        best, name, width = 0.0, "", 0
        for group, narrower in left.items():
            now = damages[group](widths[group])
            for candidate in narrower:
                saved = costs.saved(group, candidate, widths)
                worth = saved / (damages[group](candidate) - now + 1e-12)
                if worth > best:
                    best, name, width = worth, group, candidate
        if not name:
            break
        cost -= costs.saved(name, width, widths)
        widths[name] = width
        left[name] = [candidate for candidate in left[name] if candidate < width]
    return _refilled(widths, groups, costs, damages, options, allowed - cost)


def _refilled(
    widths: dict[str, int],
    groups: Sequence[ChannelGroup],
    costs: Costs,
    damages: Damages,
    options: PruneOptions,
    spare: float,
) -> dict[str, int]:
    wider = {group.name: choices(group, options) for group in groups}
    while True:
        best, name, width, price = 0.0, "", 0, 0.0
        for group, candidates in wider.items():
            now = damages[group](widths[group])
            for candidate in candidates:
                added = -costs.saved(group, candidate, widths)
                if not 0 < added <= spare:
                    continue
                worth = (now - damages[group](candidate)) / added
                if worth > best:
                    best, name, width, price = worth, group, candidate, added
        if not name:
            return widths
        widths[name] = width
        spare -= price


def allocate_uniformly(
    groups: Sequence[ChannelGroup], costs: Costs, options: PruneOptions
) -> dict[str, int]:
    """The largest share of channels, the same in each group, that costs at most `keep`."""

    def at(share: float) -> dict[str, int]:
        return {
            group.name: min(
                choices(group, options), key=lambda width: abs(width - share * group.atoms)
            )
            for group in groups
        }

    allowed = options.keep * costs.total({group.name: group.atoms for group in groups})
    low, high = 0.0, 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if costs.total(at(middle)) <= allowed else (low, middle)
    return at(low)
