"""A stage: what is minimised, what moves, how fast, and until when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from torch import Tensor, nn

from edgekit.data_folder import suggestion
from edgekit.distillation.adversary import TERMS, Adversary
from edgekit.distillation.losses import Loss
from edgekit.distillation.optimisers import AdamW, Optimiser
from edgekit.distillation.schedules import Constant, Schedule
from edgekit.distillation.taps import Batch, Forward, Outputs, nearest_path
from edgekit.errors import UsageError


@dataclass(frozen=True)
class Patience:
    """Stop when this many validations in a row gained nothing, and go back to the best."""

    validations: int = 5
    least_gain: float = 0.0
    """In units of the watched metric."""


@dataclass(frozen=True)
class Stage:
    name: str
    losses: Sequence[Loss]
    steps: int
    """Of the optimiser; the most there are, where `patience` is given."""
    trains: tuple[str, ...] = ("*",)
    """Paths of the student's modules or parameters, such as "body.3" or "head.*"; a module stands for
    all within it. The projection of a tap is "projection.TAP". All else is frozen."""
    frozen: tuple[str, ...] = ()
    """Paths that stay as they are although `trains` holds them."""
    optimiser: Optimiser = field(default_factory=AdamW)
    rate: Schedule = field(default_factory=Constant)
    """Multiplies the optimiser's learning rate."""
    batch_size: int = 16
    """Items in one step, of all processes together."""
    accumulate: int = 1
    """Parts in which a process computes its share of a batch, one after another, to save memory."""
    clip_norm: float | None = None
    """Longer gradients are cut to this length."""
    ema: float | None = 0.999
    """Decay of the average of weights, per step and less in the first ones (`averaging.Average`), or None
    for none. A short stage needs a fast one. The average is what a stage hands to the next."""
    patience: Patience | None = None
    data: Any = None
    """A data set of this stage's own."""
    forward: Forward | None = None
    """How the student runs in this stage, if not as in its `Tapped`."""
    adversary: Adversary | None = None
    """A critic that trains beside the student, for a loss term of its own."""

    def __post_init__(self) -> None:
        counts = {"steps": self.steps, "batch_size": self.batch_size, "accumulate": self.accumulate}
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise UsageError(
                    f"Stage '{self.name}' has {name} {count!r}; it must be a whole number from 1 up."
                )
        if not self.losses:
            raise UsageError(f"Stage '{self.name}' has no losses; there is nothing to train on.")
        names = [loss.name for loss in self.losses]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"Stage '{self.name}' has two losses named '{name}'.")
        if self.adversary is not None and (taken := set(names) & set(TERMS)):
            raise UsageError(
                f"Stage '{self.name}' has an adversary, and a loss named '{min(taken)}'; that name is taken."
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(
                f"Stage '{self.name}' has ema {self.ema}; it must be from 0 to below 1."
            )


class Metric(Protocol):
    """What torchmetrics.Metric is, as far as a validation uses it."""

    @property
    def higher_is_better(self) -> bool | None: ...
    def update(self, found: Tensor, expected: Tensor) -> None: ...
    def compute(self) -> Tensor: ...
    def reset(self) -> None: ...
    def to(self, device: Any) -> Any: ...


@dataclass(frozen=True)
class Validation:
    """What the average of weights is measured on, by metrics as torchmetrics has them.

    Every process measures on all of `data`, so that no metric depends on how many there are.
    """

    data: Any
    metrics: Mapping[str, Metric]
    compare: Callable[[Batch, Outputs], tuple[Tensor, Tensor]]
    """What was found and what was expected, as the metrics take them."""
    every: int = 500
    """Steps from one to the next; the end of a stage has one as well."""
    batch_size: int = 8
    watch: str = ""
    """The metric that tells the best; empty: the first."""

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UsageError("The validation has no metrics.")
        if self.watched not in self.metrics:
            raise UsageError(
                f"The validation watches '{self.watch}'; {suggestion(self.watch, list(self.metrics))}"
            )
        if self.metrics[self.watched].higher_is_better is None:
            raise UsageError(
                f"Whether more of '{self.watched}' is better is not known: its higher_is_better is None; "
                "watch another metric."
            )

    @property
    def watched(self) -> str:
        return self.watch or next(iter(self.metrics))


def select(
    network: nn.Module, stage: Stage, reached: Collection[str] | None = None
) -> dict[str, nn.Parameter]:
    """Freeze all of `network` but what the stage trains; returns that by name.

    Of this, only the parameters `reached` move, where they are known: DDP waits for each one's gradient.
    Raises UsageError for a path that names nothing, and if nothing is left to train.
    """
    parameters = {name: p for name, p in network.named_parameters() if _is_trainable(p)}
    known = sorted({path for name in parameters for path in _paths(name)})
    for pattern in (*stage.trains, *stage.frozen):
        if not any(_covers(pattern, name) for name in parameters):
            raise UsageError(
                f"Stage '{stage.name}': the student has no parameters at '{pattern}'; "
                f"{nearest_path(pattern, known)}"
            )
    chosen = {
        name: parameter
        for name, parameter in parameters.items()
        if (reached is None or name in reached)
        and any(_covers(pattern, name) for pattern in stage.trains)
        and not any(_covers(pattern, name) for pattern in stage.frozen)
    }
    if not chosen:
        raise UsageError(
            f"Stage '{stage.name}' freezes all that it trains; nothing is left to move."
        )
    network.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    set_modes(network)
    return chosen


def require_reached(stage: Stage, reached: Collection[str]) -> None:
    """Raises UsageError for something that the stage trains and that none of its losses depends on."""
    for pattern in stage.trains:
        if not any(_covers(pattern, name) for name in reached):
            raise UsageError(
                f"Stage '{stage.name}' trains '{pattern}', and none of its losses depends on that; look at "
                "how the student runs in this stage, and whether a loss detaches what it compares."
            )


def set_modes(network: nn.Module) -> None:
    """Train mode, but eval mode for a module of which nothing moves: its BatchNorm keeps its statistics."""
    network.train()
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _is_trainable(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() or parameter.is_complex()


def _covers(pattern: str, name: str) -> bool:
    """Names of the student's own parameters are those of its module: "student." is left away."""
    own = name.removeprefix("student.")
    return own == pattern or own.startswith(f"{pattern}.") or fnmatchcase(own, pattern)


def _paths(name: str) -> list[str]:
    parts = name.removeprefix("student.").split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
