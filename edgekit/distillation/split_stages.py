"""How a split network trains, as published for BottleFit and for the Entropic Student.

First the bottleneck learns to give what the teacher's own layers gave (generalised head distillation, GHND),
while all behind it is the teacher's and frozen; then the tail is tuned on classes. With a factorised prior the
first stage also pays `beta` for each bit, and the second one sees rounded latents.

Departures: terms are sums over an image's features and means over the batch, where the published code sums
over both. Adam's step does not depend on that factor, and beta keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distillation.hardware import Hardware
from edgekit.distillation.loop import Distilled, Progress, distill, silent
from edgekit.distillation.losses import Loss, Match, SoftLabels
from edgekit.distillation.optimisers import AdamW, Sgd
from edgekit.distillation.run_folder import STUDENT, save_student
from edgekit.distillation.schedules import MultiStep
from edgekit.distillation.stage import Stage, Validation
from edgekit.distillation.taps import Batch, Outputs, Tapped
from edgekit.errors import UsageError
from edgekit.split.of_network import make_tables
from edgekit.zoo.split.factorised_prior import FactorisedPrior
from edgekit.zoo.split.network import MAIN, SplitNetwork

Variant = Literal["ft", "ft-frozen", "kd", "kd-frozen"]
VARIANTS: tuple[Variant, ...] = ("ft", "ft-frozen", "kd", "kd-frozen")
BOTTLENECK, BITS = "bottleneck", "bits"
DISTIL, TUNE = "distil", "tune"
ADAM = AdamW(1e-3, betas=(0.9, 0.999), weight_decay=0.0, eps=1e-8)


@dataclass(frozen=True)
class HeadDistillation:
    """Stage 1. The published numbers are those of 10 epochs of ImageNet."""

    steps: int
    points: tuple[str, ...] = ()
    """Layers behind the bottleneck whose outputs are matched too, by their paths in the backbone; none:
    head distillation as it was before it was generalised."""
    beta: float = 0.0
    """Price of a bit, in units of squared feature errors."""
    batch_size: int = 64
    drops: tuple[float, ...] = (0.5,)
    """Shares of the steps after which the learning rate falls to a tenth; (0.5, 0.8) with a prior."""
    learning_rate: float = 1e-3
    trains_head: bool = True
    """False for another tail of a head that is in use: only the new decoder moves."""


@dataclass(frozen=True)
class TailTuning:
    """Stage 2: "ft" on the labels, "kd" on labels and the teacher's classes in equal parts; "frozen" keeps
    the head as it is, so that one head on phones serves many tails."""

    steps: int
    variant: Variant = "kd-frozen"
    batch_size: int = 64
    drops: tuple[float, ...] = (0.5,)
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(
                f"There is no variant '{self.variant}' of tuning; there are {', '.join(VARIANTS)}."
            )

    @property
    def is_head_frozen(self) -> bool:
        return self.variant.endswith("-frozen")


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Summed over an image's features, mean over the batch."""
    return F.mse_loss(student, teacher, reduction="sum") / len(student)


@dataclass(frozen=True)
class MeanBits:
    """Of an image, as the prior's likelihoods charge them."""

    def __call__(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        return student[BITS].mean()


class QuantileError(nn.Module):
    """What the prior's quantiles are off; moves nothing else."""

    def __init__(self, prior: FactorisedPrior) -> None:
        super().__init__()
        self._prior = (prior,)  # not a submodule: it is the student's

    def forward(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        return self._prior[0].quantile_error()


@dataclass(frozen=True)
class CrossEntropy:
    """With the batch's labels under `key`, or with the classes that the teacher finds."""

    key: str | None = "label"

    def __call__(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        labels = teacher.output.argmax(1) if self.key is None else batch[self.key]
        return F.cross_entropy(student.output, labels)


class Images(Protocol):
    """Runs a network on a batch, and a split one with one of its tails."""

    @property
    def tail(self) -> str: ...
    def __call__(self, module: nn.Module, batch: Batch) -> Any: ...


@dataclass(frozen=True)
class OnImages:
    """Of batches that have images as the network takes them."""

    key: str = "image"
    tail: str = MAIN

    def __call__(self, module: nn.Module, batch: Batch) -> Any:
        return run_on(module, batch[self.key], self.tail)


def run_on(module: nn.Module, image: Tensor, tail: str) -> Any:
    return module(image, tail=tail) if isinstance(module, SplitNetwork) else module(image)


def student_of(
    network: SplitNetwork, points: Sequence[str], forward: Images | None = None
) -> Tapped:
    """The split network with the taps that its stages ask for."""
    forward = forward or OnImages()
    behind = f"tails.{forward.tail}"
    taps = {BOTTLENECK: f"{behind}.decoder", BITS: "rate"}
    return Tapped(
        network, taps | {_tap(point): f"{behind}.rest.{point}" for point in points}, forward=forward
    )


def teacher_of(
    backbone: nn.Module, ends: str, points: Sequence[str], forward: Images | None = None
) -> Tapped:
    """The network whose layers up to `ends` the bottleneck stands in for."""
    taps = {BOTTLENECK: ends} | {_tap(point): point for point in points}
    return Tapped(backbone, taps, forward=forward or OnImages())


def head_stage(network: SplitNetwork, asked: HeadDistillation, tail: str = MAIN) -> Stage:
    """Trains head and decoder; what follows the decoder is the teacher's. Raises UsageError for a beta
    that nothing would pay."""
    matched = (BOTTLENECK, *map(_tap, asked.points))
    losses = [Loss(name, Match(name, squared_error)) for name in matched]
    prior = network.head.quantiser
    head = ("head",) if asked.trains_head else ()
    if isinstance(prior, FactorisedPrior) and asked.trains_head:
        losses += [Loss(BITS, MeanBits(), asked.beta), Loss("quantiles", QuantileError(prior))]
    elif asked.beta:
        why = "a frozen head" if not asked.trains_head else f"a {prior.kind} quantiser"
        raise UsageError(f"The rate of {why} does not change in training; leave beta away.")
    return Stage(
        DISTIL, losses, asked.steps, trains=(*head, f"tails.{tail}.decoder"),
        optimiser=replace(ADAM, learning_rate=asked.learning_rate),
        rate=_steps(asked.drops, asked.steps), batch_size=asked.batch_size, ema=None,
    )  # fmt: skip


def tuning_stage(asked: TailTuning, tail: str = MAIN, label: str | None = "label") -> Stage:
    """Trains the tail, and the head unless it is frozen. Other tails stay as they are."""
    is_taught = asked.variant.startswith("kd")
    losses = [Loss("classes", CrossEntropy(label), 0.5 if is_taught else 1.0)]
    if is_taught:
        losses.append(Loss("teacher", SoftLabels(), 0.5))
    head = () if asked.is_head_frozen else ("head",)
    return Stage(
        TUNE, losses, asked.steps, trains=(*head, f"tails.{tail}"),
        optimiser=Sgd(asked.learning_rate, asked.momentum, asked.weight_decay),
        rate=_steps(asked.drops, asked.steps), batch_size=asked.batch_size, ema=None,
    )  # fmt: skip


def train_split(
    network: SplitNetwork,
    backbone: nn.Module,
    ends: str,
    data: Any,
    distillation: HeadDistillation,
    tuning: TailTuning,
    *,
    run: Path,
    images: Images | None = None,
    label: str | None = "label",
    validation: Validation | None = None,
    seed: int = 0,
    resume: bool = False,
    workers: int = 0,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> Distilled:
    """Both stages, in two folders of the run; items of `data` are dicts of an image and a label. Without a
    `label` the classes are those that the backbone finds.

    A factorised prior gets its tables between them, and again behind the second one if that moved it.
    Raises what `distill` raises.
    """
    images = images or OnImages()
    student = student_of(network, distillation.points, images)
    teacher = teacher_of(backbone, ends, distillation.points, images)
    stages = {
        DISTIL: head_stage(network, distillation, images.tail),
        TUNE: tuning_stage(tuning, images.tail, label),
    }
    for name, stage in stages.items():
        done = distill(
            student, teacher, data, [stage], run=run / name, validation=validation, seed=seed,
            resume=resume, workers=workers, hardware=hardware, progress=progress,
        )  # fmt: skip
        trained = done.model.module
        assert isinstance(trained, SplitNetwork)
        if distillation.trains_head if name == DISTIL else not tuning.is_head_frozen:
            finish(network)
    trained.load_state_dict(network.state_dict())
    save_student(trained.state_dict(), done.folder / STUDENT)
    return done


def finish(network: SplitNetwork) -> None:
    """Tables for a trained prior; other quantisers need none."""
    if isinstance(network.head.quantiser, FactorisedPrior):
        make_tables(network.head.quantiser)


def _tap(point: str) -> str:
    """Taps with dots cannot have projections."""
    return point.replace(".", "_")


def _steps(drops: tuple[float, ...], steps: int) -> MultiStep:
    return MultiStep(tuple(round(share * steps) for share in drops))
