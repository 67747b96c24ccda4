"""Where a run is, on the disk and off it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.distillation import sharding
from edgekit.distillation.adversary import Contest
from edgekit.distillation.averaging import Average
from edgekit.distillation.checkpoints import read_newest, write_whole
from edgekit.distillation.network import Apprentice
from edgekit.distillation.stage import Stage, Validation
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass
class Position:
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
        if math.isnan(value):
            self.in_vain += 1
            return False
        sign = 1 if validation.metrics[validation.watched].higher_is_better else -1
        least = stage.patience.least_gain if stage.patience else 0.0
        if self.best is None or sign * (value - self.best) > least:
            self.best, self.in_vain = value, 0
            return True
        self.in_vain += 1
        return False


def restore(folder: Path, network: Apprentice, fabric: Fabric) -> Position:
    """Where the run is; the network gets its weights."""
    saved = read_newest(folder)
    if saved is None:
        return Position()
    if saved["world_size"] != fabric.world_size:
        raise UsageError(
            f"The run in {folder} was made by {saved['world_size']} processes and {fabric.world_size} would "
            f"resume it, which gives other bits; start {saved['world_size']} (torchrun --nproc-per-node), or "
            "begin another run."
        )
    network.load_state_dict(saved["network"])
    return Position(saved["stage"], saved["step"], saved["best"], saved["in_vain"], saved)


def restore_stage(
    state: Position, optimisers: Sequence[Any], average: Average | None, contest: Contest | None
) -> None:
    """Optimisers, average and critic, where the checkpoint was made within the stage."""
    if state.saved is not None and state.step > 0:
        for optimiser, one in zip(optimisers, state.saved["optimisers"], strict=True):
            sharding.load_optimiser_state(optimiser.optimizer, one)
        if average is not None:
            average.load(state.saved["average"])
        if contest is not None:
            contest.load(state.saved["critic"])
    state.saved = None


def save(
    path: Path,
    state: Position,
    network: Apprentice,
    optimisers: Sequence[Any],
    average: Average | None,
    fabric: Fabric,
    contest: Contest | None = None,
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
        "critic": {} if contest is None else contest.state(),
        "optimisers": [sharding.optimiser_state(one.optimizer) for one in optimisers],
    }
    if fabric.is_global_zero:
        write_whole(path, content)
    fabric.barrier()
