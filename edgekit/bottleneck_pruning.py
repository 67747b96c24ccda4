"""Masks are trained with the whole network as teacher, and what they let little pass of is cut out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgekit.compress.pruning.allocation import allocate
from edgekit.compress.pruning.bottleneck import BottleneckOptions, MaskedNetwork
from edgekit.compress.pruning.importance import Batch
from edgekit.compress.pruning.layers import Costs, Macs, weighted_layers
from edgekit.compress.pruning.pruned import Cut, Pruned, batches_of, cut_out, traced_groups
from edgekit.compress.pruning.sensitivity import damage_of_scores
from edgekit.distillation.loop import distill
from edgekit.distillation.losses import Loss
from edgekit.distillation.network_inputs import Inputs
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.optimisers import AdamW
from edgekit.distillation.recovery import OnInputs, match_outputs
from edgekit.distillation.schedules import Cosine
from edgekit.distillation.stage import Stage
from edgekit.distillation.taps import Batch as Items
from edgekit.distillation.taps import Outputs, Tapped
from edgekit.model import Model


@dataclass(frozen=True)
class Numbers:
    """models/distillation/bottleneck.toml."""

    batch_size: int
    learning_rate: float
    warmup: int
    clip_norm: float
    information: float
    overrun: float


def prune_by_bottleneck(
    model: Model,
    options: BottleneckOptions,
    training: Inputs,
    data: Sequence[Tensor | Batch] | None = None,
    *,
    run: Path,
    numbers: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    workers: int = 0,
    progress: Callable[[str], None] = lambda _line: None,
) -> Pruned:
    """A copy of the model without the channels, hidden units and heads whose masks let least pass.

    Its weights are those that trained with the masks. `data` is what compensation and quality are measured on.
    Raises UsageError for a network of which no channel can be told to be free, and what `distill` raises.
    """
    chosen = read_numbers(Numbers, "bottleneck", numbers)
    structure = options.structure
    progress("trace")
    _, groups, kept = traced_groups(model, structure)
    torch.manual_seed(seed)
    # By cosine, the mean learning rate is half of the first one.
    pace = 2 / (options.steps * chosen.learning_rate)
    masked = MaskedNetwork(model.module, model.example_inputs, groups, options.keep, pace)
    for parameter in masked.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    on_inputs = OnInputs(training)
    stage = Stage(
        "masks",
        [
            Loss("output", matched),
            Loss("information", information, chosen.information),
            Loss("overrun", overrun, chosen.overrun),
        ],
        options.steps, optimiser=AdamW(chosen.learning_rate, weight_decay=0.0, eps=1e-8),
        rate=Cosine(min(chosen.warmup, options.steps // 2)), batch_size=chosen.batch_size,
        clip_norm=chosen.clip_norm, frozen=("network",) if options.masks_only else (),
    )  # fmt: skip
    distilled = distill(
        Tapped(masked, forward=on_inputs), Tapped(model.module, forward=on_inputs.to_heads),
        training.items, [stage], run=run, seed=seed, resume=resume, workers=workers, progress=progress,
    )  # fmt: skip
    trained = distilled.model.module
    assert isinstance(trained, MaskedNetwork)
    layers = weighted_layers(model.module, model.example_inputs)
    costs = Costs(layers, groups, Macs())
    scores = trained.scores()
    widths = allocate(groups, costs, damage_of_scores(scores), structure)
    cut = Cut(groups, kept, layers, costs, widths, scores)
    batches = batches_of(model, data) if data else []
    return cut_out(model, trained.folded(groups), cut, structure, batches, progress)


def matched(batch: Items, student: Outputs, teacher: Outputs) -> Tensor:
    return match_outputs(batch, Outputs(student.output.output), teacher)


def information(batch: Items, student: Outputs, teacher: Outputs) -> Tensor:
    found: Tensor = student.output.information
    return found


def overrun(batch: Items, student: Outputs, teacher: Outputs) -> Tensor:
    found: Tensor = student.output.overrun
    return found
