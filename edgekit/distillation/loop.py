"""The training loop: stages in order, exact resume, EMA weights, metrics as JSON lines."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.distillation.muon import Muon, mixes_channels
from edgekit.errors import UsageError

Losses = dict[str, Tensor]
"""Weighted loss terms by name; their sum is minimised."""


@dataclass(frozen=True)
class Stage:
    """One stretch of training: what is minimised, on which modules, for how long."""

    name: str
    steps: int
    loss: Callable[[nn.Module, torch.Generator], Losses]
    """Draws its own batch with the generator, which depends only on seed, stage and step."""
    trains: tuple[str, ...]
    """Names of the submodules whose parameters move; the others are frozen. Empty: all."""
    learning_rate: float
    warmup_steps: int = 100
    ema_decay: float = 0.998
    """Of the average of weights: a short stage needs a fast one, or it mostly returns where it began."""


@dataclass(frozen=True)
class LoopOptions:
    seed: int = 0
    clip_gradient_norm: float = 1.0
    checkpoint_every_steps: int = 200
    log_every_steps: int = 20


def train(model: nn.Module, stages: Sequence[Stage], run: Path, options: LoopOptions) -> nn.Module:
    """Train `model` in place through `stages`; returns its exponential moving average.

    `run` keeps `checkpoint.pt` and `metrics.jsonl`. Called again on the same folder, it continues
    after the last checkpoint and ends with the same weights as a run that was never stopped.

    Raises:
        UsageError: the folder holds a run with another seed or other stages.
        FloatingPointError: a loss term is not finite; the message names stage, step and term.
    """
    run.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(model).requires_grad_(False)
    checkpoint, metrics = run / "checkpoint.pt", run / "metrics.jsonl"
    settings = _settings(stages, options)
    done_stages, done_steps, optimiser_states = 0, 0, None
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["settings"] != settings:
            raise UsageError(
                f"{run} holds a run of {saved['settings']}, and {settings} was asked for; "
                "give another folder, or the settings it was begun with."
            )
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        done_stages, done_steps, optimiser_states = (
            saved["stage"], saved["step"], saved["optimisers"]
        )  # fmt: skip
        _forget_after(metrics, [stage.name for stage in stages[:done_stages]], done_steps)

    for number, stage in enumerate(stages):
        if number < done_stages:
            continue
        parameters = _select_parameters(model, stage.trains)
        optimisers = _optimisers(parameters, stage.learning_rate)
        if optimiser_states is not None:
            for optimiser, state in zip(optimisers, optimiser_states, strict=True):
                optimiser.load_state_dict(state)
            optimiser_states = None
        for step in range(done_steps, stage.steps):
            started = time.perf_counter()
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = stage.learning_rate * _schedule(step, stage)
            losses = stage.loss(model, _generator(options.seed, number, step))
            _require_finite(losses, stage, step)
            model.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, options.clip_gradient_norm)
            for optimiser in optimisers:
                optimiser.step()
            _update_average(average, model, stage.ema_decay)
            if step % options.log_every_steps == 0:
                record: dict[str, object] = {"stage": stage.name, "step": step}
                record |= {name: round(term.item(), 6) for name, term in losses.items()}
                record["seconds"] = round(time.perf_counter() - started, 3)
                with metrics.open("a") as log:
                    log.write(json.dumps(record) + "\n")
            if (step + 1) % options.checkpoint_every_steps == 0 or step + 1 == stage.steps:
                state = {
                    "settings": settings,
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                    "stage": number,
                    "step": step + 1,
                }
                _save(checkpoint, state)
        done_steps = 0
    return average


def _select_parameters(model: nn.Module, names: tuple[str, ...]) -> list[nn.Parameter]:
    model.requires_grad_(not names)
    for name in names:
        model.get_submodule(name).requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimisers(parameters: Sequence[nn.Parameter], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weights that mix channels, AdamW for the rest, at the same learning rate."""
    dense = [parameter for parameter in parameters if mixes_channels(parameter)]
    rest = [parameter for parameter in parameters if not mixes_channels(parameter)]
    optimisers: list[torch.optim.Optimizer] = []
    if dense:
        optimisers.append(Muon(dense, rate))
    if rest:
        optimisers.append(torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0))
    return optimisers


def _schedule(step: int, stage: Stage) -> float:
    """Linear warm-up, then a half cosine to zero."""
    warm = min(1.0, (step + 1) / stage.warmup_steps)
    return warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))


def _generator(seed: int, stage: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 64 + stage) * 10_000_000 + step)


def _require_finite(losses: Losses, stage: Stage, step: int) -> None:
    for name, term in losses.items():
        if not torch.isfinite(term):
            raise FloatingPointError(
                f"Loss term '{name}' is {term.item()} at step {step} of stage '{stage.name}'; "
                "lower the learning rate or resume from the last checkpoint."
            )


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for copy_of, buffer in zip(average.buffers(), model.buffers(), strict=True):
        copy_of.copy_(buffer)


def _save(path: Path, state: dict[str, object]) -> None:
    """Write beside, then rename, so that a kill leaves the previous checkpoint whole."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _settings(stages: Sequence[Stage], options: LoopOptions) -> str:
    """What must be the same for a run to be continued."""
    each = (
        f"{s.name}: {s.steps} steps at {s.learning_rate:g} on {' '.join(s.trains) or 'all'}"
        for s in stages
    )
    return f"seed {options.seed}, {'; '.join(each)}"


def _forget_after(metrics: Path, stages_done: Sequence[str], step: int) -> None:
    """Drop what was logged after the last checkpoint: it will be logged again."""
    if not metrics.exists():
        return
    records = map(json.loads, metrics.read_text().splitlines())
    kept = [r for r in records if r["stage"] in stages_done or r["step"] < step]
    metrics.write_text("".join(json.dumps(record) + "\n" for record in kept))
