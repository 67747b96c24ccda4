"""`edgekit.distill`: the training loop, from the first batch to the finished student.

What is random in step k of stage s depends on the seed, s and k only. So a checkpoint needs weights,
their average, the optimisers' state and the two numbers, and a run that was killed anywhere and is
resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from edgekit.distillation import run_folder as files
from edgekit.distillation import sharding
from edgekit.distillation.averaging import Average
from edgekit.distillation.batches import (
    Batches,
    Place,
    first_batch,
    require_items,
    require_shares,
    seed_everything,
)
from edgekit.distillation.checkpoints import BEST, NEWEST, read_newest, write_whole
from edgekit.distillation.curves import draw_curves
from edgekit.distillation.hardware import Hardware, repeatable, started
from edgekit.distillation.meter import Meter, memory_method, sentence
from edgekit.distillation.network import Apprentice, TeacherRun, recording_inputs
from edgekit.distillation.stage import Stage, Validation, select, set_modes
from edgekit.distillation.taps import Batch, Outputs, Tapped, opened
from edgekit.errors import StoppedError, UsageError
from edgekit.model import Model, model_of_module

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Teacher = Tapped | nn.Module | Callable[[Batch], Outputs] | None
Progress = Callable[[str], None]
DRAW_EVERY_S = 60.0  # a picture takes 0.3 s


def silent(_line: str) -> None:
    """No progress."""


class Distilled(NamedTuple):
    model: Model
    """The student with the weights that its last stage left, in eval mode: a copy."""
    folder: Path
    """recipe.json, versions.json, metrics.jsonl, curves.png, student.safetensors, checkpoints."""


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
        TrainingError: a loss is not finite; the message names the step and the term.
        StoppedError: Ctrl-C or SIGTERM came; the run was saved, and can be resumed.
        MissingEnvironmentError: the `train` extra is not installed.
    """
    own = student if isinstance(student, Tapped) else Tapped(student)
    folder, hardware = Path(run), hardware or Hardware()
    _require_usable(stages, data, validation, seed, save_every, log_every)
    recipe = _recipe(own, teacher, data, stages, validation, seed, hardware)
    fabric = started(hardware)
    for stage in stages:
        require_shares(stage, fabric.world_size)
    shipped = copy.deepcopy(own.module)
    with (
        repeatable() if hardware.deterministic else nullcontext(),
        opened(own) as tap,
        TeacherRun(teacher, fabric) as teaching,
        _stopping() as stop,
    ):
        network = Apprentice(own, tap)
        fabric.to_device(network)
        _move_losses(stages, fabric)
        examples = _rehearse(network, teaching, data, stages, fabric)
        if fabric.is_global_zero:
            files.open_folder(folder, recipe, resume=resume)
        fabric.barrier()
        state = _restore(folder, network, fabric)
        if fabric.is_global_zero:
            files.forget_after(folder, [stage.name for stage in stages], state.stage, state.step)
            used = {
                "device": str(fabric.device),
                "processes": fabric.world_size,
                "threads": torch.get_num_threads(),
                "memory": memory_method(fabric.device),
            }
            files.write_versions(folder, state.stage, state.step, used)

        drawn = time.monotonic()
        while state.stage < len(stages):
            stage = stages[state.stage]
            items = data if stage.data is None else stage.data
            select(network, stage)
            module = fabric.setup_module(network)
            # By name again: FSDP has put shards in the place of the parameters.
            moving = {name: p for name, p in network.named_parameters() if p.requires_grad}
            built = stage.optimiser.build(moving)
            optimisers: list[Any] = [fabric.setup_optimizers(one) for one in built]
            rates = [[group["lr"] for group in one.param_groups] for one in optimisers]
            average = None if stage.ema is None else Average(moving, stage.ema)
            _restore_stage(state, optimisers, average)
            place = Place(seed, state.stage, state.step, fabric.global_rank, fabric.world_size)
            pinned = fabric.device.type == "cuda"
            batches = Batches(items, stage, place, workers, pinned)
            meter = Meter(stage, items, batches, fabric)

            while state.step < stage.steps and not state.is_patience_over(stage):
                for optimiser, base in zip(optimisers, rates):
                    for group, rate in zip(optimiser.param_groups, base):
                        group["lr"] = rate * stage.rate(state.step, stage.steps)
                weights = [
                    loss.weight * loss.schedule(state.step, stage.steps) for loss in stage.losses
                ]
                parts: list[Tensor] = []
                for part in range(stage.accumulate):
                    batch = fabric.to_device(batches.take())
                    seed_everything(seed, state.stage, 2, state.step, part, fabric.global_rank)
                    is_last = part + 1 == stage.accumulate
                    with nullcontext() if is_last else fabric.no_backward_sync(module):
                        found = network.outputs(module(batch, stage.forward or own.forward))
                        target = teaching(batch)
                        terms = [
                            loss.of(batch, found, target).float().reshape(())
                            for loss in stage.losses
                        ]
                        total = torch.stack([w * term for w, term in zip(weights, terms)]).sum()
                        fabric.backward(total / stage.accumulate)
                    parts.append(torch.stack(terms).detach())
                norm = None
                if stage.clip_norm is not None:
                    norm = nn.utils.clip_grad_norm_(moving.values(), stage.clip_norm)
                    norm = sharding.local(norm).float()
                for optimiser in optimisers:
                    optimiser.step()
                network.zero_grad(set_to_none=True)
                if average is not None:
                    average.update()
                meter.add(parts, norm)
                state.step += 1

                at_end = state.step == stage.steps
                is_validated = validation is not None and (
                    at_end or state.step % validation.every == 0
                )
                is_stopped = stop.was_asked_everywhere(fabric, state.step % log_every == 0)
                is_saved = at_end or is_stopped or is_validated or state.step % save_every == 0
                if is_saved or state.step % log_every == 0:
                    record = meter.record(state.step)
                    if fabric.is_global_zero:
                        files.append_metrics(folder, record)
                        progress(sentence(record, stage.steps))
                if validation is not None and is_validated:
                    with average.in_place() if average else nullcontext():
                        measured = _validate(module, own, validation, fabric)
                    set_modes(network)
                    meter.restart()
                    improved = state.judge(measured, validation, stage)
                    if fabric.is_global_zero:
                        named = {"stage": stage.name, "step": state.step, "validation": measured}
                        files.append_metrics(folder, named)
                        progress(f"{stage.name} {state.step}/{stage.steps}  {_listed(measured)}")
                    if improved:
                        _save(folder / BEST, state, network, optimisers, average, fabric)
                if is_saved:
                    _save(folder / NEWEST, state, network, optimisers, average, fabric)
                    if fabric.is_global_zero and (
                        is_stopped or time.monotonic() > drawn + DRAW_EVERY_S
                    ):
                        draw_curves(files.read_metrics(folder), folder / files.CURVES)
                        drawn = time.monotonic()
                if is_stopped:
                    raise StoppedError(
                        f"Stopped after step {state.step} of {stage.steps} of stage '{stage.name}', and saved "
                        f"to {folder}; the same with resume=True (--resume) goes on from there."
                    )

            if stage.patience is not None:
                best = torch.load(folder / BEST, map_location="cpu", weights_only=True)
                sharding.load_module_state(network, best["network"])
                if average is not None:
                    average.load(best["average"])
            if average is not None:
                average.settle()
            trained = sharding.module_state(own.module)
            if fabric.is_global_zero:
                files.save_student(trained, folder / f"after-{stage.name}.safetensors")
            state = _Position(state.stage + 1)
            _save(folder / NEWEST, state, network, [], None, fabric)

        trained = sharding.module_state(own.module)
        if fabric.is_global_zero:
            files.save_student(trained, folder / files.STUDENT)
            draw_curves(files.read_metrics(folder), folder / files.CURVES)
        fabric.barrier()
    shipped.cpu().load_state_dict(trained)
    shipped.requires_grad_(False)
    return Distilled(model_of_module(shipped, examples), folder)


@dataclass
class _Position:
    """Where a run is, and how good it has been in this stage."""

    stage: int = 0
    step: int = 0
    """Of the stage; done."""
    best: float | None = None
    in_vain: int = 0
    """Validations since the best."""
    saved: Mapping[str, Any] | None = None
    """The checkpoint that this position was read from, until its stage has taken it."""

    def is_patience_over(self, stage: Stage) -> bool:
        return stage.patience is not None and self.in_vain >= stage.patience.validations

    def judge(self, measured: Mapping[str, float], validation: Validation, stage: Stage) -> bool:
        """Whether this is the best so far in the stage."""
        value = measured[validation.watched]
        sign = 1 if validation.metrics[validation.watched].higher_is_better else -1
        least = stage.patience.least_gain if stage.patience else 0.0
        if self.best is None or sign * (value - self.best) > least:
            self.best, self.in_vain = value, 0
            return True
        self.in_vain += 1
        return False


def _require_usable(
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


def _recipe(
    student: Tapped,
    teacher: Teacher,
    data: Any,
    stages: Sequence[Stage],
    validation: Validation | None,
    seed: int,
    hardware: Hardware,
) -> dict[str, Any]:
    """What decides the weights that come out: a run is resumed only if all of it is the same."""
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
        one = files.resolved(stage)
        one["data"] = None if stage.data is None else files.described_data(stage.data)
        described["stages"].append(one)
    if validation is not None:
        one = files.resolved(validation)
        described["validation"] = {**one, "data": files.described_data(validation.data)}
    return described


def _move_losses(stages: Sequence[Stage], fabric: Fabric) -> None:
    for stage in stages:
        for loss in stage.losses:
            if isinstance(loss.of, nn.Module):
                fabric.to_device(loss.of)


def _rehearse(
    network: Apprentice,
    teaching: TeacherRun,
    data: Any,
    stages: Sequence[Stage],
    fabric: Fabric,
) -> tuple[Tensor, ...]:
    """Compute each stage's losses once on two items, so that a mistake in the last stage shows now.

    Leaves the student as it was; returns what its module takes, one item of it.
    """
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    given: tuple[Tensor, ...] = ()
    with torch.no_grad(), fabric.autocast():
        for stage in stages:
            select(network, stage)
            batch = fabric.to_device(first_batch(data if stage.data is None else stage.data, 2))
            forward = stage.forward or network.tapped.forward
            with recording_inputs(network.student) as seen:
                found = network.outputs(network(batch, forward))
                given = given or tuple(value[:1].cpu() for value in seen)
            target = teaching(batch)
            for loss in stage.losses:
                term = loss.of(batch, found, target)
                if not isinstance(term, Tensor) or term.numel() != 1:
                    shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
                    raise UsageError(
                        f"Loss '{loss.name}' of stage '{stage.name}' gives {shape}; it must be one number: "
                        "take the mean."
                    )
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
    if not given:
        raise UsageError(
            "In no stage does the student's own forward run on tensors, so that what it takes is not known; "
            "let one stage, or the student's Tapped, call the module itself."
        )
    return given


def _restore(folder: Path, network: Apprentice, fabric: Fabric) -> _Position:
    """Where the run is; the network gets its weights."""
    saved = read_newest(folder)
    if saved is None:
        return _Position()
    if saved["world_size"] != fabric.world_size:
        raise UsageError(
            f"The run in {folder} was made by {saved['world_size']} processes and {fabric.world_size} would "
            f"resume it, which gives other bits; start {saved['world_size']} (torchrun --nproc-per-node), or "
            "begin another run."
        )
    network.load_state_dict(saved["network"])
    return _Position(saved["stage"], saved["step"], saved["best"], saved["in_vain"], saved)


def _restore_stage(state: _Position, optimisers: Sequence[Any], average: Average | None) -> None:
    """Optimisers and average, where the checkpoint was made within the stage."""
    if state.saved is not None and state.step > 0:
        for optimiser, one in zip(optimisers, state.saved["optimisers"], strict=True):
            sharding.load_optimiser_state(optimiser.optimizer, one)
        if average is not None:
            average.load(state.saved["average"])
    state.saved = None


def _save(
    path: Path,
    state: _Position,
    network: Apprentice,
    optimisers: Sequence[Any],
    average: Average | None,
    fabric: Fabric,
) -> None:
    """All processes gather; the first one writes."""
    content = {
        "stage": state.stage,
        "step": state.step,
        "best": state.best,
        "in_vain": state.in_vain,
        "world_size": fabric.world_size,
        "network": sharding.module_state(network),
        "average": {} if average is None else average.state(),
        "optimisers": [sharding.optimiser_state(one.optimizer) for one in optimisers],
    }
    if fabric.is_global_zero:
        write_whole(path, content)
    fabric.barrier()


@torch.no_grad()
def _validate(
    module: Any, student: Tapped, validation: Validation, fabric: Fabric
) -> dict[str, float]:
    """By the wrapped network, which stays in eval mode."""
    module.eval()
    for metric in validation.metrics.values():
        metric.to(fabric.device)
        metric.reset()
    loader = torch.utils.data.DataLoader(validation.data, validation.batch_size)
    for batch in loader:
        batch = fabric.to_device(batch)
        pair = validation.compare(batch, Apprentice.outputs(module(batch, student.forward)))
        for metric in validation.metrics.values():
            metric.update(*pair)
    return {name: float(metric.compute()) for name, metric in validation.metrics.items()}


def _listed(measured: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in measured.items())


class _Stop:
    def __init__(self) -> None:
        self.was_asked = False

    def was_asked_everywhere(self, fabric: Fabric, is_due: bool) -> bool:
        """Processes stop at the same step: several of them agree only at steps that are `is_due`."""
        if fabric.world_size == 1:
            return self.was_asked
        if not is_due:
            return False
        asked = torch.tensor(float(self.was_asked), device=fabric.device)
        return bool(torch.as_tensor(fabric.all_reduce(asked, reduce_op="sum")) > 0)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """The first Ctrl-C or SIGTERM asks the loop to end after its step; the second one ends at once."""
    stop = _Stop()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, _frame: Any) -> None:
        stop.was_asked = True
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread, which alone has signals
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
