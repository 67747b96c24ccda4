"""The numbers of the Turbo-VAED recipe: models/distillation/turbo-vaed.toml, or a file of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.data_folder import data_folder, require_types
from edgekit.errors import UsageError

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


def read_numbers(model: str, file: Path | None = None) -> Numbers:
    """For one model. Raises UsageError that names the file and what is wrong with it."""
    path = file or data_folder("models") / "distillation" / "turbo-vaed.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The numbers {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}.") from error
    try:
        if model not in table["models"]:
            raise UsageError(
                f"{path} has no table [models.{model}]; it has {', '.join(table['models'])}."
            )
        stages = {
            name: StageNumbers(**_with_tuples(stage)) for name, stage in table["stages"].items()
        }
        numbers = Numbers(
            table["initialise_from_teacher"],
            DataNumbers(**_with_tuples(table["data"])),
            WeightNumbers(**table["weights"]),
            {name: stages[name] for name in STAGES if name in stages},
            ModelNumbers(**_with_tuples(table["models"][model])),
        )
        if unknown := set(table) - {"models", *vars(numbers)} | set(stages) - set(STAGES):
            raise TypeError(f"'{min(unknown)}' is unknown")
        if not stages:
            raise TypeError("there are no stages")
        for record in (numbers, numbers.data, numbers.weights, numbers.model, *stages.values()):
            require_types(record)
        _require_ranges(numbers)
    except (KeyError, TypeError, AttributeError) as error:
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(f"{path} does not hold the numbers of Turbo-VAED: {reason}.") from error
    return numbers


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


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
