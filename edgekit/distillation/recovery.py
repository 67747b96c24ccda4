"""A pruned network learns again what the whole one computes: outputs are matched, no labels are needed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distillation.hardware import Hardware
from edgekit.distillation.held_zeros import hold_zeros, release
from edgekit.distillation.loop import Progress, distill, silent
from edgekit.distillation.losses import (
    Loss,
    SoftLabels,
    relative_feature_error,
    require_equal_shapes,
)
from edgekit.distillation.network_inputs import Inputs
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.optimisers import AdamW
from edgekit.distillation.run_folder import STUDENT
from edgekit.distillation.schedules import Cosine
from edgekit.distillation.stage import Stage
from edgekit.distillation.taps import Batch, Outputs, Tapped
from edgekit.model import Model


@dataclass(frozen=True)
class Numbers:
    """models/distillation/pruned.toml."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: int
    clip_norm: float
    ema: float


@dataclass(frozen=True)
class OnInputs:
    """Runs a network on stacked items."""

    inputs: Inputs

    def __call__(self, module: nn.Module, batch: Batch) -> Any:
        return module(self.inputs.prepare(batch))

    def to_heads(self, module: nn.Module, batch: Batch) -> Any:
        """A detector only as far as its heads, whose numbers a loss understands."""
        run: Any = getattr(module, "raw", module)
        return run(self.inputs.prepare(batch))


def recover(
    pruned: Model,
    whole: Model,
    inputs: Inputs,
    steps: int,
    *,
    run: Path,
    numbers: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    workers: int = 0,
    hardware: Hardware | None = None,
    zeros_stay: bool = False,
    progress: Progress = silent,
) -> Model:
    """The pruned model with weights that were trained for `steps`. Raises what `distill` raises."""
    chosen = read_numbers(Numbers, "pruned", numbers)
    on_inputs = OnInputs(inputs)
    network = copy.deepcopy(pruned.module)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    if zeros_stay:
        hold_zeros(network)
    stage = Stage(
        "recover", [Loss("output", match_outputs)], steps,
        optimiser=AdamW(chosen.learning_rate, weight_decay=chosen.weight_decay, eps=1e-8),
        rate=Cosine(min(chosen.warmup, steps // 2)), batch_size=chosen.batch_size,
        clip_norm=chosen.clip_norm, ema=chosen.ema, forward=on_inputs.to_heads,
    )  # fmt: skip
    teacher = Tapped(whole.module, forward=on_inputs.to_heads)
    distilled = distill(
        Tapped(network, forward=on_inputs), teacher, inputs.items, [stage],
        run=run, seed=seed, resume=resume, workers=workers, hardware=hardware, progress=progress,
    )  # fmt: skip
    release(distilled.model.module)
    trained = f"{pruned.name}, {STUDENT} of {steps} steps"
    return replace(pruned, module=distilled.model.module, weights=trained)


def match_outputs(batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
    """Error in units of the teacher's power, as a mean over tensors; of classes also their divergence."""
    pairs = list(zip(_tensors(student.output), _tensors(teacher.output), strict=True))
    for own, target in pairs:
        require_equal_shapes(own, target, "the output")
    error = torch.stack([relative_feature_error(own, target) for own, target in pairs]).mean()
    if len(pairs) == 1 and pairs[0][0].ndim == 2:
        return error + SoftLabels()(batch, student, teacher)
    return error


def _tensors(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)
