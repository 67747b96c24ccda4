"""The numbers of the Turbo-VAED recipe: models/distillation/turbo-vaed.toml, or a file of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.distillation.numbers_file import Table, read_numbers

STAGES = ("reconstruction", "adversarial")


@dataclass(frozen=True)
class DataNumbers:
    size_px: int
    variants: int
    flip: float
    speeds: tuple[int, ...]
    validation_clips: int


@dataclass(frozen=True)
class WeightNumbers:
    pixel: float
    perceptual: float
    features: float
    adversarial: float


@dataclass(frozen=True)
class StageNumbers:
    steps: int
    batch_size: int
    at_once: int
    ema: float
    critic_learning_rate: float = 1e-4
    critic_widths: tuple[int, int, int, int] = (64, 128, 256, 512)

    def accumulate(self, processes: int) -> int:
        """Parts of a process's share of a batch."""
        return max(1, self.batch_size // (self.at_once * processes))


@dataclass(frozen=True)
class ModelNumbers:
    frames: int
    learning_rate: float
    heads: tuple[str, ...]
    direct: tuple[str, ...]

    @property
    def points(self) -> list[str]:
        return [*self.direct, *self.heads]


@dataclass(frozen=True)
class Numbers:
    initialise_from_teacher: bool
    data: DataNumbers
    weights: WeightNumbers
    stages: Mapping[str, StageNumbers]
    model: ModelNumbers

    def scaled_to(self, steps: int) -> Numbers:
        """`steps` in all, shared by the stages as before, at least one each; averages reach back as much less."""
        share = steps / sum(stage.steps for stage in self.stages.values())
        return replace(
            self,
            stages={
                name: replace(
                    stage,
                    steps=max(1, round(stage.steps * share)),
                    ema=min(stage.ema, max(0.0, 1 - (1 - stage.ema) / share)),
                )
                for name, stage in self.stages.items()
            },
        )


def numbers_of(model: str, file: Path | None = None) -> Numbers:
    """For one model. Raises UsageError that names the file and what is wrong with it."""

    def of_model(table: Table) -> Table:
        models, stages = table.pop("models", {}), table.get("stages", {})
        if not isinstance(models, dict) or not isinstance(stages, dict):
            raise TypeError("'models' and 'stages' must be tables")
        if model not in models:
            raise TypeError(f"it has no table [models.{model}], only {', '.join(models)}")
        if unknown := set(stages) - set(STAGES):
            raise TypeError(f"the stage '{min(unknown)}' is unknown")
        if not stages:
            raise TypeError("there are no stages")
        in_order = {name: stages[name] for name in STAGES if name in stages}
        return table | {"model": models[model], "stages": in_order}

    return read_numbers(Numbers, "turbo-vaed", file, of_model, _require_ranges)


def _require_ranges(numbers: Numbers) -> None:
    """Raise TypeError for a count below 1; steps, batch_size, ema, flip and speeds are looked at where used."""
    data = numbers.data
    counts = {
        "size_px": data.size_px,
        "variants": data.variants,
        "validation_clips": data.validation_clips,
    }
    for name, stage in numbers.stages.items():
        counts[f"stages.{name}.at_once"] = stage.at_once
        if len(stage.critic_widths) != len(StageNumbers.critic_widths):
            raise TypeError(f"'critic_widths' are {stage.critic_widths}; there are four of them")
    for name, count in counts.items():
        if count < 1:
            raise TypeError(f"'{name}' is {count}; it must be a whole number from 1 up")
