from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.distillation import AdamW, Constant, Cosine, Linear, MultiStep, MuonAndAdamW, Sgd
from edgekit.distillation.muon import Muon


def values(schedule: object, steps: int) -> list[float]:
    return [schedule(step, steps) for step in range(steps)]


def test_schedules_are_what_they_are_called() -> None:
    assert values(Constant(), 3) == [1, 1, 1]
    assert values(Linear(), 5) == [0, 0.25, 0.5, 0.75, 1]
    assert values(Linear(1.0, 0.5, over=2), 4) == [1, 0.75, 0.5, 0.5]
    assert values(MultiStep((2, 4)), 6) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert values(MultiStep((3,), 0.5, warmup=2), 4) == [0.5, 1, 1, 0.5]
    assert values(Cosine(), 4) == pytest.approx([1, 0.853553, 0.5, 0.146447], rel=1e-5)
    assert values(Cosine(warmup=2, end=0.2), 2) == pytest.approx([0.5, 0.6])


def test_a_stage_of_one_step_has_a_weight() -> None:
    assert Linear()(0, 1) == 1.0


def parameters() -> dict[str, nn.Parameter]:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    return dict(network.named_parameters())


@pytest.mark.parametrize("settings", [AdamW(1e-3, weight_decay=0.1), Sgd(1e-3, weight_decay=0.1)])
def test_all_decays_unless_vectors_are_spared(settings: AdamW | Sgd) -> None:
    from dataclasses import replace

    (optimiser,) = settings.build(parameters())
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1]
    (sparing,) = replace(settings, decays_vectors=False).build(parameters())
    decays = {group["weight_decay"]: len(group["params"]) for group in sparing.param_groups}
    assert decays == {0.1: 1, 0.0: 3}


def test_settings_reach_torch() -> None:
    (adam,) = AdamW().build(parameters())
    assert isinstance(adam, torch.optim.AdamW)
    assert {k: adam.defaults[k] for k in ("lr", "betas", "eps")} == {
        "lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-15,
    }  # fmt: skip
    (sgd,) = Sgd(0.1, momentum=0.8, nesterov=True).build(parameters())
    assert sgd.defaults["nesterov"]
    assert sgd.defaults["momentum"] == 0.8


def test_muon_gets_what_mixes_channels_and_adamw_the_rest() -> None:
    muon, adam = MuonAndAdamW(1e-2).build(parameters())
    assert isinstance(muon, Muon)
    assert len(muon.param_groups[0]["params"]) == 1
    assert len(adam.param_groups[0]["params"]) == 3
    (only,) = MuonAndAdamW(1e-2).build({"bias": nn.Parameter(torch.zeros(3))})
    assert isinstance(only, torch.optim.AdamW)
