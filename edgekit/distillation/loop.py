"""`edgekit.distill`: the training loop, from the first batch to the finished student.

What is random in step k of stage s depends on the seed, s and k only. So a checkpoint needs weights,
their average, the optimisers' state and the two numbers, and a run that was killed anywhere and is
resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from edgekit.distillation import run_folder as files
from edgekit.distillation import sharding
from edgekit.distillation.adversary import Contest
from edgekit.distillation.averaging import Average, statistics
from edgekit.distillation.batch_statistics import shared_statistics
from edgekit.distillation.batches import (
    Batches,
    Place,
    require_shares,
    seed_everything,
    stack,
    unless_refused,
)
from edgekit.distillation.checkpoints import BEST, NEWEST
from edgekit.distillation.curves import draw_curves
from edgekit.distillation.hardware import Hardware, repeatable, started
from edgekit.distillation.meter import Meter, memory_method, sentence
from edgekit.distillation.network import Apprentice, TeacherRun
from edgekit.distillation.position import Position, restore, restore_stage, save
from edgekit.distillation.preparation import (
    Teacher,
    describe,
    move_losses,
    rehearse,
    rehearse_validation,
    require_usable,
)
from edgekit.distillation.stage import Stage, Validation, select, set_modes
from edgekit.distillation.stopping import Stop, stopping
from edgekit.distillation.taps import Tapped, opened
from edgekit.errors import StoppedError
from edgekit.model import Model, model_of_module
from edgekit.report import json_number

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Progress = Callable[[str], None]
DRAW_EVERY_S = 60.0  # a picture takes 0.3 s


def silent(_line: str) -> None:
    """No progress."""


class Distilled(NamedTuple):
    model: Model
    """A copy of the student with the weights that its last stage left, in eval mode."""
    folder: Path
    """recipe.json, versions.json, metrics.jsonl, curves.png, checkpoints, student.safetensors, and
    after-STAGE.safetensors: the student as each stage left it."""


@dataclass(frozen=True)
class _Run:
    """What all stages share."""

    fabric: Fabric
    network: Apprentice
    teaching: TeacherRun
    validation: Validation | None
    folder: Path
    stop: Stop
    seed: int
    workers: int
    save_every: int
    log_every: int
    progress: Progress


def distill(
    student: Tapped | nn.Module,
    teacher: Teacher,
    data: Any,
    stages: Sequence[Stage],
    *,
    run: str | Path,
    validation: Validation | None = None,
    seed: int = 0,
    resume: bool = False,
    workers: int = 0,
    hardware: Hardware | None = None,
    save_every: int = 200,
    log_every: int = 20,
    progress: Progress = silent,
) -> Distilled:
    """Train the student through the stages, in place, and return a copy with its averaged weights.

    Args:
        teacher: a network, which stays as it is; or a function of the batch, for outputs that were
            computed before; or None.
        data: a data set with a length and items by index. Its random changes may use torch's, NumPy's
            or Python's global generators, which are seeded for each item. If an item is a clip, say
            so with an attribute `frames`, the number of them, so that throughput is in frames.
        run: the run's folder. With `resume` a run in it goes on, and begins if there is none.
        workers: processes that make items; 0 makes them in this one.
        save_every: steps between checkpoints.
        progress: gets a line every `log_every` steps.

    Raises:
        UsageError: a tap, module, shape, data set or folder cannot be used as asked.
        TrainingError: a loss, or a weight, is not finite; the message names the step and the term.
        StoppedError: Ctrl-C or SIGTERM came; the run was saved, and can be resumed.
        MissingEnvironmentError: the `train` extra is not installed.
    """
    own = student if isinstance(student, Tapped) else Tapped(student)
    folder, hardware = Path(run), hardware or Hardware()
    require_usable(stages, data, validation, seed, save_every, log_every)
    recipe = describe(own, teacher, data, stages, validation, seed, hardware)
    fabric = started(hardware)
    for stage in stages:
        require_shares(stage, fabric.world_size)
    shipped = copy.deepcopy(own.module)
    with (
        repeatable() if hardware.deterministic else nullcontext(),
        opened(own) as tap,
        TeacherRun(teacher, fabric) as teaching,
        shared_statistics([own.module, *own.projections.values()], fabric.world_size),
        stopping(fabric.world_size) as stop,
    ):
        network = Apprentice(own, tap)
        fabric.to_device(network)
        move_losses(stages, fabric)
        rehearsal = rehearse(network, teaching, data, stages, fabric)
        if validation is not None:
            rehearse_validation(network, validation, fabric)
        if fabric.is_global_zero:
            files.open_folder(folder, recipe, resume=resume)
        fabric.barrier()
        state = restore(folder, network, fabric)
        if fabric.is_global_zero:
            _note_session(folder, stages, state, fabric)
        running = _Run(
            fabric, network, teaching, validation, folder, stop, seed, workers, save_every, log_every,
            progress,
        )  # fmt: skip
        while state.stage < len(stages):
            stage = stages[state.stage]
            select(network, stage, rehearsal.reached[stage.name])
            _train_stage(running, stage, data if stage.data is None else stage.data, state)
            state = Position(state.stage + 1)
            save(folder / NEWEST, state, network, [], None, fabric)
        trained = sharding.module_state(own.module)
        if fabric.is_global_zero:
            files.save_student(trained, folder / files.STUDENT)
            draw_curves(files.read_metrics(folder), folder / files.CURVES)
        fabric.barrier()
    shipped.cpu().load_state_dict(trained)
    shipped.requires_grad_(False)
    return Distilled(model_of_module(shipped, rehearsal.examples), folder)


def _train_stage(run: _Run, stage: Stage, items: Any, state: Position) -> None:
    """From where `state` is to the stage's end, where the network gets the averaged weights.

    What moves is what has requires_grad.
    """
    fabric, network, folder, validation = run.fabric, run.network, run.folder, run.validation
    module = fabric.setup_module(network)
    # By name again: FSDP has put shards in the place of the parameters.
    moving = {name: p for name, p in network.named_parameters() if p.requires_grad}
    built = stage.optimiser.build(moving)
    contest = None if stage.adversary is None else Contest(stage.adversary, network, fabric)
    if contest is not None:
        built += contest.optimisers()
    optimisers: list[Any] = [fabric.setup_optimizers(one) for one in built]
    rates = [[group["lr"] for group in one.param_groups] for one in optimisers]
    averaged = {**moving, **statistics(network)}
    average = None if stage.ema is None else Average(averaged, stage.ema)
    restore_stage(state, optimisers, average, contest)
    place = Place(run.seed, state.stage, state.step, fabric.global_rank, fabric.world_size)
    batches = Batches(items, stage, place, run.workers, pinned=fabric.device.type == "cuda")
    meter = Meter(stage, items, batches, fabric)
    drawn = time.monotonic()

    while state.step < stage.steps and not state.is_patience_over(stage):
        for optimiser, base in zip(optimisers, rates):
            for group, rate in zip(optimiser.param_groups, base):
                group["lr"] = rate * stage.rate(state.step, stage.steps)
        terms = _add_gradients(run, stage, state, module, batches, contest)
        norm = None
        if stage.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(moving.values(), stage.clip_norm)
            norm = sharding.local(norm).float()
        if contest is not None:
            contest.settle_gradients()
        for optimiser in optimisers:
            optimiser.step()
        network.zero_grad(set_to_none=True)
        if contest is not None:
            contest.critic.zero_grad(set_to_none=True)
        if average is not None:
            average.update(state.step)
        meter.add(terms, norm)
        state.step += 1

        at_end = state.step == stage.steps
        is_stopped = run.stop.was_asked_anywhere()
        is_validated = validation is not None and (at_end or state.step % validation.every == 0)
        is_saved = at_end or is_stopped or is_validated or state.step % run.save_every == 0
        if is_saved or state.step % run.log_every == 0:
            # Also what finds a loss that is not finite: nothing is saved before it was looked at.
            record = meter.record(state.step)
            if fabric.is_global_zero:
                files.append_metrics(folder, record)
                run.progress(sentence(record, stage.steps))
        if is_saved:
            meter.require_finite_weights(moving, state.step)
        if validation is not None and is_validated:
            with average.in_place() if average else nullcontext():
                # One process's for all: they must agree on what is the best.
                measured = fabric.broadcast(_validate(run, validation, module))
            set_modes(network)
            meter.restart()
            if fabric.is_global_zero:
                numbers = {name: json_number(value) for name, value in measured.items()}
                place_of = {"stage": stage.name, "step": state.step}
                files.append_metrics(folder, {**place_of, "validation": numbers})
                run.progress(f"{stage.name} {state.step}/{stage.steps}  {_listed(measured)}")
            if state.judge(measured, validation, stage):
                save(folder / BEST, state, network, optimisers, average, fabric, contest)
        if is_saved:
            save(folder / NEWEST, state, network, optimisers, average, fabric, contest)
            is_drawn = is_stopped or time.monotonic() > drawn + DRAW_EVERY_S
            if is_drawn and fabric.is_global_zero:
                draw_curves(files.read_metrics(folder), folder / files.CURVES)
                drawn = time.monotonic()
        if is_stopped:
            raise StoppedError(
                f"Stopped after step {state.step} of {stage.steps} of stage '{stage.name}', and saved to "
                f"{folder}; the same with resume=True (--resume) goes on from there."
            )

    if stage.patience is not None and state.best is not None:
        best = torch.load(folder / BEST, map_location="cpu", weights_only=True)
        sharding.load_module_state(network, best["network"])
        if average is not None:
            average.load(best["average"])
    if average is not None:
        average.settle()
    left = sharding.module_state(network.student)
    if fabric.is_global_zero:
        files.save_student(left, folder / f"after-{stage.name}.safetensors")


def _add_gradients(
    run: _Run, stage: Stage, state: Position, module: Any, batches: Batches, contest: Contest | None
) -> Tensor:
    """Of this process's share of one batch, part by part; returns the mean of each loss term, and of their sum.

    With a critic, before the sum: the student's term for it, the critic's own, and the weight of the former.
    """
    fabric, forward = run.fabric, stage.forward or run.network.tapped.forward
    weights = [loss.weight * loss.schedule(state.step, stage.steps) for loss in stage.losses]
    parts: list[Tensor] = []
    for part in range(stage.accumulate):
        batch = fabric.to_device(batches.take())
        seed_everything(run.seed, state.stage, 2, state.step, part, fabric.global_rank)
        is_last = part + 1 == stage.accumulate
        with nullcontext() if is_last else fabric.no_backward_sync(module):
            found = Apprentice.outputs(module(batch, forward))
            target = run.teaching(batch)
            terms = [loss.of(batch, found, target).float().reshape(()) for loss in stage.losses]
            total = torch.stack([weight * term for weight, term in zip(weights, terms)]).sum()
            charge = None if contest is None else contest.charge(batch, found, total)
            if charge is not None:
                total = total + charge.weight * charge.loss
            fabric.backward(total / stage.accumulate)
            if contest is not None and charge is not None:
                learned = contest.learn(batch, found, stage.accumulate)
                terms += [charge.loss, learned, charge.weight]
        parts.append(torch.stack([*terms, total]).detach())
    return torch.stack(parts).mean(0)


@torch.no_grad()
def _validate(run: _Run, validation: Validation, module: Any) -> dict[str, float]:
    """By the wrapped network, which stays in eval mode."""
    fabric = run.fabric
    seed_everything(run.seed, 3)  # each validation measures on the same
    module.eval()
    for metric in validation.metrics.values():
        metric.to(fabric.device)
        metric.reset()
    size = validation.batch_size
    for items in torch.utils.data.DataLoader(validation.data, size, collate_fn=stack):
        batch = fabric.to_device(unless_refused(items))
        found = Apprentice.outputs(module(batch, run.network.tapped.forward))
        pair = validation.compare(batch, found)
        for metric in validation.metrics.values():
            metric.update(*pair)
    return {name: float(metric.compute()) for name, metric in validation.metrics.items()}


def _listed(measured: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in measured.items())


def _note_session(folder: Path, stages: Sequence[Stage], state: Position, fabric: Fabric) -> None:
    files.forget_after(folder, [stage.name for stage in stages], state.stage, state.step)
    used = {
        "device": str(fabric.device),
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "memory": memory_method(fabric.device),
    }
    files.write_versions(folder, state.stage, state.step, used)
