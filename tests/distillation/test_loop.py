from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.distillation.loop import LoopOptions, Losses, Stage, train
from edgekit.errors import UsageError

OPTIONS = LoopOptions(checkpoint_every_steps=4, log_every_steps=2)


class KilledError(Exception):
    pass


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def stages(kill: tuple[str, int] | None = None, nan: tuple[str, int] | None = None) -> list[Stage]:
    """Two stages; `kill` and `nan` name a stage and the call at which something happens."""
    calls = {"first": 0, "second": 0}

    def loss_of(name: str) -> object:
        def loss(model: nn.Module, generator: torch.Generator) -> Losses:
            calls[name] += 1
            if kill == (name, calls[name]):
                raise KilledError
            x = torch.randn(8, 3, generator=generator)
            error = (model(x) - x[:, :2]).square().mean()
            bad = math.nan if nan == (name, calls[name]) else 1.0
            return {"error": error, "size": 0.01 * model(x).abs().mean() * bad}

        return loss

    return [
        Stage("first", 7, loss_of("first"), ("0",), 1e-2, warmup_steps=2),
        Stage("second", 9, loss_of("second"), (), 5e-3, warmup_steps=2),
    ]


def weights(module: nn.Module) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


@pytest.mark.parametrize("kill", [("first", 2), ("first", 6), ("second", 1), ("second", 7)])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, kill: tuple[str, int]
) -> None:
    unstopped = network()
    expected = train(unstopped, stages(), tmp_path / "unstopped", OPTIONS)
    with pytest.raises(KilledError):
        train(network(), stages(kill), tmp_path / "stopped", OPTIONS)
    resumed = network()
    average = train(resumed, stages(), tmp_path / "stopped", OPTIONS)
    assert all(map(torch.equal, weights(resumed), weights(unstopped)))
    assert all(map(torch.equal, weights(average), weights(expected)))


def test_a_stopped_run_logs_every_step_once(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(network(), stages(("second", 7)), tmp_path, OPTIONS)
    train(network(), stages(), tmp_path, OPTIONS)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["stage"], record["step"]) for record in records] == [
        *(("first", step) for step in (0, 2, 4, 6)),
        *(("second", step) for step in (0, 2, 4, 6, 8)),
    ]


def test_a_run_is_not_continued_with_other_settings(tmp_path: Path) -> None:
    train(network(), stages(), tmp_path, OPTIONS)
    with pytest.raises(UsageError, match=r"seed 0, .*, and seed 1, .* was asked for"):
        train(network(), stages(), tmp_path, replace(OPTIONS, seed=1))
    shorter = [replace(stages()[0], steps=3), stages()[1]]
    with pytest.raises(UsageError, match="first: 3 steps"):
        train(network(), shorter, tmp_path, OPTIONS)


def test_the_rate_warms_up_and_falls_to_nothing(tmp_path: Path) -> None:
    """AdamW moves a bias with a steady gradient by the rate, step by step."""
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(1))
    seen: list[float] = []

    def loss(model: nn.Module, generator: torch.Generator) -> Losses:
        seen.append(model.bias.item())
        return {"steady": -0.5 * model.bias.sum()}

    steps, warmup = 20, 4
    train(model, [Stage("only", steps, loss, (), 1e-2, warmup)], tmp_path, OPTIONS)
    moved = np.diff([*seen, model.bias.item()])
    expected = [
        1e-2 * min(1, (k + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * k / steps))
        for k in range(steps)
    ]
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


def test_gradients_longer_than_one_are_cut_to_one(tmp_path: Path) -> None:
    seen: list[float] = []

    def loss(model: nn.Module, generator: torch.Generator) -> Losses:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if gradients:
            seen.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return {"steep": 1e3 * model(torch.ones(1, 3)).square().sum()}

    train(network(), [Stage("only", 4, loss, (), 1e-3)], tmp_path, OPTIONS)
    np.testing.assert_allclose(seen, 1, rtol=1e-4)


def test_a_finished_run_called_again_changes_nothing(tmp_path: Path) -> None:
    first = train(network(), stages(), tmp_path, OPTIONS)
    again = train(network(), stages(kill=("second", 1)), tmp_path, OPTIONS)
    assert all(map(torch.equal, weights(again), weights(first)))


def test_nan_stops_with_stage_step_and_term(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="'size' is nan at step 3 of stage 'second'"):
        train(network(), stages(nan=("second", 4)), tmp_path, OPTIONS)


def test_a_stage_moves_only_the_modules_that_it_names(tmp_path: Path) -> None:
    model, start = network(), network()
    train(model, stages()[:1], tmp_path, OPTIONS)
    assert torch.equal(model[2].weight, start[2].weight)
    assert not torch.equal(model[0].weight, start[0].weight)


def test_the_average_is_the_exponential_mean_of_the_weights(tmp_path: Path) -> None:
    model = network()
    seen: list[Tensor] = []

    def loss(model: nn.Module, generator: torch.Generator) -> Losses:
        seen.append(model[0].weight.detach().clone())
        return {"error": model(torch.ones(1, 3)).square().sum()}

    average = train(model, [Stage("only", 5, loss, (), 1e-2, ema_decay=0.9)], tmp_path, OPTIONS)
    expected = seen[0]
    for value in [*seen[1:], model[0].weight.detach()]:
        expected = 0.9 * expected + 0.1 * value
    torch.testing.assert_close(average[0].weight, expected)


def test_buffers_of_the_average_follow_the_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def loss(model: nn.Module, generator: torch.Generator) -> Losses:
        return {"error": model(torch.randn(8, 3, generator=generator) + 5).square().sum()}

    average = train(model, [Stage("only", 3, loss, (), 1e-2)], tmp_path, OPTIONS)
    assert torch.equal(average[1].running_mean, model[1].running_mean)


def test_metrics_are_json_lines_with_every_term(tmp_path: Path) -> None:
    train(network(), stages(), tmp_path, OPTIONS)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["stage"], record["step"]) for record in records] == [
        *(("first", step) for step in (0, 2, 4, 6)),
        *(("second", step) for step in (0, 2, 4, 6, 8)),
    ]
    assert all(record.keys() >= {"error", "size", "seconds"} for record in records)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(network(), [Stage("long", 150, stages()[1].loss, (), 0.1, 5)], tmp_path, OPTIONS)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert last["error"] < 0.3 * first["error"]
