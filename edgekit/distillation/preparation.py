"""Before the first step: what was asked for is looked at as a whole, and tried once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekit.distillation import run_folder as files
from edgekit.distillation.adversary import Contest
from edgekit.distillation.batches import first_batch, require_items
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.losses import Loss
from edgekit.distillation.network import Apprentice, TeacherRun, recording_inputs
from edgekit.distillation.stage import Stage, Validation, require_reached, select
from edgekit.distillation.taps import Batch, Outputs, Tapped
from edgekit.errors import UsageError, first_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Teacher = Tapped | nn.Module | Callable[[Batch], Outputs] | None


def require_usable(
    stages: Sequence[Stage],
    data: Any,
    validation: Validation | None,
    seed: int,
    save_every: int,
    log_every: int,
) -> None:
    if not stages:
        raise UsageError("There are no stages; there is nothing to train.")
    names = [stage.name for stage in stages]
    for stage in stages:
        if names.count(stage.name) > 1:
            raise UsageError(f"Two stages are named '{stage.name}'.")
        if stage.data is not None or data is not None:
            items = data if stage.data is None else stage.data
            require_items(items, f"stage '{stage.name}'")
        else:
            raise UsageError(f"Stage '{stage.name}' has no data, and none is given for all stages.")
        if stage.patience is not None and validation is None:
            raise UsageError(f"Stage '{stage.name}' has patience, which needs a validation.")
    if validation is not None:
        require_items(validation.data, "the validation")
    if seed < 0:
        raise UsageError(f"The seed is {seed}; it must be 0 or more.")
    for name, every in (("save_every", save_every), ("log_every", log_every)):
        if every < 1:
            raise UsageError(f"{name} is {every}; it must be a number of steps from 1 up.")


def describe(
    student: Tapped,
    teacher: Teacher,
    data: Any,
    stages: Sequence[Stage],
    validation: Validation | None,
    seed: int,
    hardware: Hardware,
) -> dict[str, Any]:
    """What decides the weights that come out: a run is resumed only if all of it is the same.

    Of a data set that does not say what it was `made_by`, that is the number of its items.
    """
    taught = teacher.module if isinstance(teacher, Tapped) else teacher
    described: dict[str, Any] = {
        "seed": seed,
        "precision": hardware.precision,
        "student": files.resolved(student),
        "teacher": files.resolved(teacher),
    }
    if isinstance(taught, nn.Module):
        described["teacher_weights"] = files.fingerprint(taught)
    if data is not None:
        described["data"] = files.described_data(data)
    described["stages"] = []
    for stage in stages:
        one = files.resolved(
            replace(stage, data=None)
        )  # of a long list each item would be looked at
        one["data"] = None if stage.data is None else files.described_data(stage.data)
        described["stages"].append(one)
    if validation is not None:
        one = files.resolved(replace(validation, data=None))
        described["validation"] = {**one, "data": files.described_data(validation.data)}
    return described


def move_losses(stages: Sequence[Stage], fabric: Fabric) -> None:
    for stage in stages:
        for loss in stage.losses:
            if isinstance(loss.of, nn.Module):
                fabric.to_device(loss.of)


@dataclass(frozen=True)
class Rehearsal:
    examples: tuple[Tensor, ...]
    """What the student's module takes, one item of it."""
    reached: Mapping[str, frozenset[str]]
    """By stage: the parameters that its losses depend on."""


def rehearse(
    network: Apprentice,
    teaching: TeacherRun,
    data: Any,
    stages: Sequence[Stage],
    fabric: Fabric,
) -> Rehearsal:
    """Compute each stage's losses once on one or two items, so that a mistake in the last stage shows now.

    Leaves the student as it was.
    """
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    examples: tuple[Tensor, ...] = ()
    reached: dict[str, frozenset[str]] = {}
    for stage in stages:
        moving = select(network, stage)
        # No more at once than in training, where items of several shapes may come one by one.
        size = min(2, stage.batch_size // (stage.accumulate * fabric.world_size))
        batch = fabric.to_device(first_batch(data if stage.data is None else stage.data, size))
        forward = stage.forward or network.tapped.forward
        with recording_inputs(network.student) as seen, fabric.autocast():
            found = network.outputs(network(batch, forward))
            examples = examples or tuple(value[:1].detach().cpu() for value in seen)
        target = teaching(batch)
        terms = [_one_number(loss, loss.of(batch, found, target), stage) for loss in stage.losses]
        total = torch.stack(terms).sum()
        if stage.adversary is not None:
            contest = Contest(stage.adversary, network, fabric)
            total = total + contest.charge(batch, found, total).loss
            contest.learn(batch, found, 1)
        gradients: Sequence[Tensor | None] = [None] * len(moving)
        if total.requires_grad:
            gradients = torch.autograd.grad(total, list(moving.values()), allow_unused=True)
        names = frozenset(name for name, g in zip(moving, gradients) if g is not None)
        require_reached(stage, names)
        reached[stage.name] = names
    with torch.no_grad():
        if (
            not examples
        ):  # the stages call parts of the student: the last one's batch goes through all
            with recording_inputs(network.student) as seen, fabric.autocast():
                network(batch, network.tapped.forward)
            examples = tuple(value[:1].detach().cpu() for value in seen)
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
    if not examples:
        raise UsageError(
            "The forward of the student's Tapped does not call the module itself on tensors, so that what the "
            "model takes is not known."
        )
    return Rehearsal(examples, reached)


@torch.no_grad()
def rehearse_validation(network: Apprentice, validation: Validation, fabric: Fabric) -> None:
    """Measure once on an item or two, so that what cannot be compared shows now, not after hours."""
    network.eval()
    batch = fabric.to_device(first_batch(validation.data, min(2, validation.batch_size)))
    with fabric.autocast():
        found = network.outputs(network(batch, network.tapped.forward))
    pair = validation.compare(batch, found)
    for name, metric in validation.metrics.items():
        metric.to(fabric.device)
        metric.reset()
        try:
            metric.update(*pair)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"The metric '{name}' of the validation cannot compare what `compare` gives "
                f"({first_line(error)})."
            ) from error
        metric.reset()


def _one_number(loss: Loss, term: Any, stage: Stage) -> Tensor:
    if isinstance(term, Tensor) and term.numel() == 1:
        return term.float().reshape(())
    shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
    raise UsageError(
        f"Loss '{loss.name}' of stage '{stage.name}' gives {shape}; it must be one number: take the mean."
    )
