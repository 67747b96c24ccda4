"""From a model to a narrower one: trace, refuse what is not understood, score, choose widths, cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from edgekit.compress.pruning.allocation import allocate, allocate_uniformly
from edgekit.compress.pruning.channels import ChannelGroup, channel_groups
from edgekit.compress.pruning.compensation import narrowed
from edgekit.compress.pruning.graph import ChannelGraph
from edgekit.compress.pruning.heads import with_heads
from edgekit.compress.pruning.importance import Batch, scores
from edgekit.compress.pruning.latency_table import LatencyTable
from edgekit.compress.pruning.layers import (
    Costs,
    Layer,
    LayerCost,
    Macs,
    Widths,
    weighted_layers,
)
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.quality import Quality, quality
from edgekit.compress.pruning.sensitivity import damage_of_scores, lowest_first, scanned
from edgekit.compress.pruning.small_inputs import small_inputs
from edgekit.compress.pruning.soundness import Kept, sentences, sound_groups
from edgekit.errors import UsageError, first_line
from edgekit.model import Model
from edgekit.recipe import Recipe
from edgekit.report import aligned
from edgekit.zoo.resized import changes_between

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerChange:
    path: str
    reads: tuple[int, int]
    """Channels before and after, as `makes`."""
    makes: tuple[int, int]
    macs: tuple[int, int]
    milliseconds: tuple[float, float] | None
    """By the table, where latency was asked for."""


@dataclass(frozen=True)
class Pruned:
    model: Model
    layers: tuple[LayerChange, ...]
    kept: tuple[Kept, ...]
    parameters: tuple[int, int]
    left: float
    """Share of the cost that was asked about."""
    options: PruneOptions
    quality: Quality
    """On the data that it was pruned by."""
    steps: int = 0
    """That it was trained for since."""
    untrained: Quality | None = None
    """The quality before that training."""
    latencies: tuple[Mapping[str, Any], ...] = ()
    """The measured table."""

    @property
    def macs(self) -> tuple[int, int]:
        return sum(layer.macs[0] for layer in self.layers), sum(
            layer.macs[1] for layer in self.layers
        )

    @property
    def milliseconds(self) -> tuple[float, float] | None:
        pairs = [layer.milliseconds for layer in self.layers if layer.milliseconds is not None]
        return (sum(a for a, _ in pairs), sum(b for _, b in pairs)) if pairs else None

    @property
    def shortfall(self) -> str:
        """Why more is left than was asked for; empty where it is not."""
        if self.left <= self.options.keep:
            return ""
        what = "latency" if self.options.of == "latency" else "multiply-accumulates"
        return (
            f"{self.left:.0%} of the {what} are left, not {self.options.keep:.0%}: nothing else can be narrowed "
            f"by {self.options.round_to} channels above {self.options.least:.1%} of its width; a smaller round_to "
            "or least goes further."
        )

    def table(self) -> str:
        timed = self.milliseconds is not None
        rows = [("layer", "channels in", "out", "million MACs", *(("ms",) if timed else ()))]
        for layer in self.layers:
            cells = [layer.path, _arrow(*layer.reads), _arrow(*layer.makes)]
            cells.append(_arrow(*(f"{macs / 1e6:.2f}" for macs in layer.macs)))
            if layer.milliseconds is not None:
                cells.append(_arrow(*(f"{ms:.3f}" for ms in layer.milliseconds)))
            rows.append(tuple(cells))
        return aligned(rows)

    def summary(self) -> str:
        rows = [("", "before", "after", "left")]
        rows.append(("parameters", *_compared(self.parameters, "{:,.0f}")))
        rows.append(("MACs", *_compared(self.macs, "{:,.0f}")))
        if self.milliseconds is not None:
            rows.append(("ms by the table", *_compared(self.milliseconds, "{:.2f}")))
        before, after = self.untrained or self.quality, self.quality
        lines = [aligned(rows), f"against the whole network, untrained: {before.sentence()}"]
        if self.untrained is not None:
            lines.append(f"against the whole network, after {self.steps} steps: {after.sentence()}")
        return "\n".join([*lines, *sentences(self.kept), *filter(None, [self.shortfall])])

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "parameters": list(self.parameters),
            "macs": list(self.macs),
            "left": self.left,
            "steps": self.steps,
            "untrained": self.untrained.to_json() if self.untrained else None,
            "quality": self.quality.to_json(),
            "kept": [asdict(kept) for kept in self.kept],
            "layers": [asdict(layer) for layer in self.layers],
            "latencies": list(self.latencies),
        }


def prune_model(
    model: Model,
    options: PruneOptions,
    data: Sequence[Tensor | Batch] | None = None,
    progress: Progress = lambda _line: None,
) -> Pruned:
    """A copy of the model with fewer channels; what is measured is measured on `data`, batches of its inputs.

    Without data it is measured on the model's example, which is noise: enough for magnitudes and for a test.
    Raises UsageError for a network of which no channel can be told to be free.
    """
    batches = batches_of(model, data)
    progress("trace")
    traced, groups, kept = traced_groups(model, options)
    progress("scores")
    ranked = scores(traced, groups, options.importance, batches, options.loss)
    traced.requires_grad_(False)
    layers = weighted_layers(model.module, model.example_inputs)
    cost: LayerCost = Macs()
    if options.of == "latency":
        progress("latency of layers")
        cost = LatencyTable(layers.values(), options.round_to, options.least)
    costs = Costs(layers, groups, cost)
    if options.ratios == "uniform":
        widths = allocate_uniformly(groups, costs, options)
    else:
        damages = damage_of_scores(ranked)
        if options.ratios == "scan":
            damages = scanned(traced, groups, ranked, batches, options.loss, progress)
        widths = allocate(groups, costs, damages, options)
    cut = Cut(groups, kept, layers, costs, widths, ranked)
    return cut_out(
        model, model.module, cut, options, batches[: len(batches) if data else 0], progress
    )


@dataclass(frozen=True)
class Cut:
    """What is to go."""

    groups: Sequence[ChannelGroup]
    kept: Sequence[Kept]
    layers: Mapping[str, Layer]
    costs: Costs
    widths: Widths
    scores: Mapping[str, Tensor]
    """Of each group's atoms: the lowest go."""


def cut_out(
    model: Model,
    network: nn.Module,
    cut: Cut,
    options: PruneOptions,
    data: Sequence[Batch],
    progress: Progress,
) -> Pruned:
    """Of `network`, which stands for the model's own; without data, as it is and measured on the model's example."""
    removed = {
        group.name: lowest_first(cut.scores[group.name])[: group.atoms - cut.widths[group.name]]
        for group in cut.groups
    }
    inputs = len(model.example_inputs)
    measured_on = [batch[:inputs] for batch in data]
    progress("cut")
    narrow = narrowed(network, cut.groups, removed, measured_on)
    recipe = recipe_of(model, narrow)
    made = replace(model, module=narrow, recipe=recipe, name=recipe.name if recipe else model.name)
    full = {group.name: group.atoms for group in cut.groups}
    layers, costs = cut.layers, cut.costs
    return Pruned(
        model=made,
        layers=_changes(Costs(layers, cut.groups, Macs()), costs, layers, full, cut.widths),
        kept=tuple(cut.kept),
        parameters=(_count(model.module), _count(narrow)),
        left=costs.total(cut.widths) / costs.total(full),
        options=options,
        quality=quality(model.module, narrow, measured_on or [model.example_inputs]),
        latencies=tuple(costs.cost.to_json()) if isinstance(costs.cost, LatencyTable) else (),
    )


def traced_groups(
    model: Model, options: PruneOptions
) -> tuple[nn.Module, list[ChannelGroup], list[Kept]]:
    """A copy of the network whose parameters take gradients, what of it can be pruned, and what is kept.

    Raises UsageError for a network of which no channel can be told to be free.
    """
    traced = copy.deepcopy(model.module).eval()
    for parameter in traced.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    groups, kept = prunable_groups(traced, small_inputs(model), options)
    if not groups:
        raise UsageError(f"Nothing of {model.name} can be pruned. {' '.join(sentences(kept))}")
    return traced, groups, kept


def prunable_groups(
    traced: nn.Module, inputs: tuple[Tensor, ...], options: PruneOptions
) -> tuple[list[ChannelGroup], list[Kept]]:
    """Of a network whose parameters take gradients; and what is kept, and why. Raises UsageError."""
    paths = [path for path, _ in traced.named_modules()]
    for path in options.ignored:
        if path not in paths:
            raise UsageError(f"The network has no module '{path}' to leave as it is.")
    try:
        graph = ChannelGraph(traced, inputs)
        groups = with_heads(channel_groups(graph), graph)
    except Exception as error:  # the library traces any network, and fails in any way
        raise UsageError(
            f"The dependencies of channels cannot be traced ({type(error).__name__}: {first_line(error)})."
        ) from error
    last = graph.output_layers()
    candidates, kept = [], []
    for group in groups:
        if any(within(place.path, options.ignored) for place in group.members):
            kept.append(Kept(group.name, "that was asked for"))
        elif last.intersection(group.makers):
            kept.append(Kept(group.name, "these channels are the network's output"))
        else:
            candidates.append(group)
    sound, refused = sound_groups(traced, inputs, candidates)
    return sound, kept + refused


def batches_of(model: Model, data: Sequence[Tensor | Batch] | None) -> list[Batch]:
    """As tuples; without data, the model's example."""
    batches = [(item,) if isinstance(item, Tensor) else tuple(item) for item in data or ()]
    return batches or [model.example_inputs]


def within(path: str, ignored: Sequence[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in ignored)


def recipe_of(model: Model, narrow: nn.Module) -> Recipe | None:
    """The recipe of a network that is narrower than the architecture says."""
    recipe = model.recipe
    if recipe is None:
        return None
    earlier = {path: dict(changed) for path, changed in recipe.channels.items()}
    for path, changed in changes_between(model.module, narrow).items():
        earlier.setdefault(path, {}).update(changed)
    name = recipe.name if recipe.channels else f"{recipe.name}-pruned"
    summary = recipe.summary if recipe.channels else f"{recipe.summary}; pruned"
    return replace(
        recipe, name=name, aliases=(), summary=summary, channels=earlier, parameters=_count(narrow)
    )


def _changes(
    macs: Costs, costs: Costs, layers: Mapping[str, Any], full: Widths, widths: Widths
) -> tuple[LayerChange, ...]:
    found = []
    for path in layers:
        before, after = (macs.channels(path, state) for state in (full, widths))
        timed = None
        if costs.unit == LatencyTable.unit:
            timed = (costs.of_layer(path, full), costs.of_layer(path, widths))
        found.append(
            LayerChange(
                path,
                (before[0], after[0]),
                (before[1], after[1]),
                (round(macs.of_layer(path, full)), round(macs.of_layer(path, widths))),
                timed,
            )
        )
    return tuple(found)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _arrow(before: Any, after: Any) -> str:
    return f"{before}" if before == after else f"{before} -> {after}"


def _compared(pair: tuple[float, float], form: str) -> tuple[str, str, str]:
    before, after = pair
    return form.format(before), form.format(after), f"{after / before:.1%}"
