"""What a run measures of itself: losses, throughput, the wait for data, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekit.distillation.adversary import TERMS
from edgekit.distillation.batches import Batches
from edgekit.distillation.sharding import local
from edgekit.distillation.stage import Stage
from edgekit.errors import TrainingError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATUS = Path("/proc/self/status")


class Meter:
    """Holds the losses of the steps since the last record, on the device: reading them waits for it."""

    def __init__(self, stage: Stage, data: Any, batches: Batches, fabric: Fabric) -> None:
        self._stage = stage
        self._names = [loss.name for loss in stage.losses]
        if stage.adversary is not None:
            self._names += TERMS
        self._columns = [f"Loss term '{name}'" for name in self._names]
        if stage.adversary is not None:
            self._columns.append("The adversary's weight")
        self._columns += ["The sum of the losses", "The gradient's length"]
        self._items_are = int(getattr(data, "frames", 1))
        self._batches = batches
        self._fabric = fabric
        self._steps: list[Tensor] = []
        self.restart()

    def restart(self) -> None:
        """Time that passed is not training's."""
        self._steps.clear()
        self._waited_before = self._batches.waited_seconds
        self._started = time.perf_counter()

    def add(self, terms: Tensor, norm: Tensor | None) -> None:
        """One step: its loss terms, with the adversary's weight and their sum, and its gradient's length."""
        self._steps.append(terms if norm is None else torch.cat([terms, norm.reshape(1)]))

    def record(self, done: int) -> dict[str, Any]:
        """Means over the steps since the last record, for a line of metrics.jsonl, after `done` steps.

        Raises TrainingError that names the step and the term, if one was not finite.
        """
        values = torch.stack(self._steps)
        if self._fabric.world_size > 1:
            values = torch.as_tensor(self._fabric.all_reduce(values.double(), reduce_op="mean"))
        values = values.cpu().double()  # which MPS, where one process runs alone, does not have
        seconds = time.perf_counter() - self._started
        self._require_finite(values, done)
        averages = values.mean(0).tolist()
        means = dict(zip(self._names, averages))
        others = averages[len(means) :]
        step = done - 1
        weights = {
            loss.name: loss.weight * loss.schedule(step, self._stage.steps)
            for loss in self._stage.losses
        }
        if self._stage.adversary is not None:
            # The critic's loss is not the student's.
            weights |= {TERMS[0]: others.pop(0), TERMS[1]: 0.0}
        frames = len(self._steps) * self._stage.batch_size * self._items_are
        record: dict[str, Any] = {
            "stage": self._stage.name,
            "step": done,
            "loss": others.pop(0),
            "losses": means,
            "weights": weights,
            "rate": self._stage.rate(step, self._stage.steps),
        }
        if others:
            record["gradient_norm"] = others[-1]
        waited = self._batches.waited_seconds - self._waited_before
        record["frames_per_second"] = round(frames / seconds, 3)
        record["data_wait"] = round(waited / seconds, 4)
        record["peak_memory_bytes"] = peak_memory_bytes(self._fabric.device)
        self.restart()
        return record

    def require_finite_weights(self, weights: Mapping[str, nn.Parameter], done: int) -> None:
        """Raises TrainingError that names one that is not, in any process.

        A loss may be finite where its gradient is not, such as the root of 0: what it leaves shows in the
        losses only a step later.
        """
        broken = torch.stack([~local(weight).isfinite().all() for weight in weights.values()])
        if self._fabric.world_size > 1:
            found = self._fabric.all_reduce(broken.float(), reduce_op="sum")
            broken = torch.as_tensor(found) > 0
        if bool(broken.any()):
            name = list(weights)[int(broken.nonzero()[0])]
            raise TrainingError(
                f"The weight '{name}' is not finite after step {done} of stage '{self._stage.name}', although "
                "the losses are: the gradient of one of them is not. Nothing was saved after it. Begin another "
                "run with that loss made safe: resumed, this one comes to the same step."
            )

    def _require_finite(self, values: Tensor, done: int) -> None:
        bad = (~torch.isfinite(values)).nonzero().tolist()
        if bad:
            row, column = bad[0]
            raise TrainingError(
                f"{self._columns[column]} is {values[row, column]} at step {done - len(values) + row + 1} of stage "
                f"'{self._stage.name}'; nothing was saved after it. Begin another run with a lower learning "
                "rate, clip_norm, or that loss made safe: resumed, this one comes to the same step."
            )


def sentence(record: Mapping[str, Any], steps: int) -> str:
    """One line for a person who watches."""
    text = (
        f"{record['stage']} {record['step']}/{steps}  loss {record['loss']:.4g}  "
        f"{record['frames_per_second']:.1f} frames/s  data wait {record['data_wait']:.0%}  "
        f"{record['peak_memory_bytes'] / 2**30:.2f} GiB"
    )
    starving = "  (the loop waits for data: give it more workers)"
    return text + starving if record["data_wait"] > 0.1 else text


def peak_memory_bytes(device: torch.device) -> int:
    """Of this process so far: what torch took of a GPU, or the resident high-water mark on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():  # ru_maxrss begins at what the parent process had
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def memory_method(device: torch.device) -> str:
    if device.type == "cuda":
        return "most bytes that torch had allocated on the GPU"
    return "resident high-water mark of the process"
