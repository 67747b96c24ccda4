"""What `edgekit.distill` costs over a loop written by hand: frames per second and memory.

    python benchmarks/distill_overhead.py [--rounds 7] [--steps 20] [--threads 1] [--workers 0]

Both train turbo-vaed-mini's "joined" stage, with the same items, losses, optimisers, clipping and
average of weights: 160x160 pictures of noise, in batches of 2. They take turns, a stretch of steps each;
the first 10 steps of a stretch are not timed. A stretch of `distill` is timed from outside, by its lines
of progress. Processor time stands beside the clock's, which other programs disturb. Memory is the
resident high-water mark of a fresh process that runs one of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from edgekit.distillation.loop import distill
from edgekit.distillation.losses import pyramid_l1, relative_feature_error
from edgekit.distillation.meter import peak_memory_bytes
from edgekit.distillation.optimisers import MuonAndAdamW
from edgekit.distillation.schedules import Cosine
from edgekit.distillation.turbo_vaed_mini import (
    Clips,
    new_student,
    numbers_of,
    recorded,
    stages_of,
)

WARM_UP = 10
SIZE_PX, BATCH = 160, 2


@dataclass(frozen=True)
class Speed:
    """Of one stretch."""

    frames: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.frames / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.frames / self.cpu_seconds


def noise() -> Clips:
    count, side = 32, SIZE_PX // 8
    torch.manual_seed(0)
    features = {
        name: torch.randn(count, 64, scale * side, scale * side).half()
        for name, scale in (("trunk", 1), ("quarter", 2), ("half", 4))
    }
    pixels = torch.randint(256, (count, 1, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8)
    return Clips(pixels, torch.randn(count, 1, 32, side, side).half(), features)


def by_distill(data: Clips, steps: int, workers: int) -> Speed:
    numbers = numbers_of()
    long = replace(numbers.stages["joined"], steps=WARM_UP + steps, batch_size=BATCH)
    numbers = replace(numbers, stages={**numbers.stages, "joined": long})
    joined = stages_of(numbers, data)[2]
    times: dict[int, tuple[float, float]] = {}

    def note(line: str) -> None:
        done = int(line.split()[1].partition("/")[0])
        times[done] = time.perf_counter(), time.process_time()

    with tempfile.TemporaryDirectory() as run:
        distill(
            new_student(0), recorded, data, [joined], run=run, workers=workers, log_every=10,
            progress=note,
        )  # fmt: skip
    began, ended = times[WARM_UP], times[WARM_UP + steps]
    return Speed(BATCH * steps, ended[0] - began[0], ended[1] - began[1])


def by_hand(data: Clips, steps: int, workers: int) -> Speed:
    numbers = numbers_of()
    stage, weights = numbers.stages["joined"], numbers.weights
    own = new_student(0)
    student, to_quarter, to_half = own.module, own.projections["quarter"], own.projections["half"]
    student.get_submodule("time").requires_grad_(False)
    moving = [p for m in (student, to_quarter, to_half) for p in m.parameters() if p.requires_grad]
    optimisers = MuonAndAdamW(stage.learning_rate).build({str(i): p for i, p in enumerate(moving)})
    rate = Cosine(stage.warmup)
    means = [p.detach().clone() for p in moving]
    order = torch.randint(len(data), (BATCH * (WARM_UP + steps),)).tolist()
    began = 0.0, 0.0
    for step, batch in enumerate(DataLoader(data, BATCH, sampler=order, num_workers=workers)):
        if step == WARM_UP:
            began = time.perf_counter(), time.process_time()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * rate(step, WARM_UP + steps)
        trunk = student.trunk_features(batch["latent"].float())
        pictures, quarter, half = student.paint(trunk.contiguous(memory_format=torch.channels_last))
        frames = batch["pixels"].flatten(0, 1).float() / 255
        features = (
            relative_feature_error(trunk, batch["trunk"].float())
            + relative_feature_error(to_quarter(quarter), batch["quarter"].float())
            + relative_feature_error(to_half(half), batch["half"].float())
        )
        squared = (pictures - frames).square().mean()
        loss = weights.features * features + weights.squared * squared
        (loss + pyramid_l1(pictures, frames, levels=4)).backward()
        torch.nn.utils.clip_grad_norm_(moving, stage.clip_norm)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(means, moving, 1 - stage.ema)
    return Speed(BATCH * steps, time.perf_counter() - began[0], time.process_time() - began[1])


LOOPS = {"by hand": by_hand, "distill": by_distill}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="a multiple of 10")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--memory-of", choices=LOOPS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = noise()
    if asked.memory_of:
        LOOPS[asked.memory_of](data, asked.steps, asked.workers)
        print(peak_memory_bytes(torch.device("cpu")))
        return
    speeds: dict[str, list[Speed]] = {name: [] for name in LOOPS}
    for number in range(asked.rounds):
        for name in sorted(LOOPS, reverse=bool(number % 2)):
            speeds[name].append(LOOPS[name](data, asked.steps, asked.workers))
        last = ", ".join(
            f"{name} {found[-1].per_second:.3f} (processor {found[-1].per_cpu_second:.3f})"
            for name, found in speeds.items()
        )
        print(f"round {number + 1}, frames/s: {last}", flush=True)
    for name, found in speeds.items():
        rate = statistics.median(speed.per_second for speed in found)
        print(f"{name}: {rate:.3f} frames/s (median of {len(found)})")
    pairs = list(zip(speeds["distill"], speeds["by hand"], strict=True))
    print_ratios("frames/s", [ours.per_second / bare.per_second for ours, bare in pairs])
    of = "frames per second of processor time"
    print_ratios(of, [ours.per_cpu_second / bare.per_cpu_second for ours, bare in pairs])
    for name in LOOPS:
        command = [sys.executable, str(Path(__file__)), "--memory-of", name, "--steps", "10",
                   "--threads", str(asked.threads), "--workers", str(asked.workers)]  # fmt: skip
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{name}: {peak / 2**20:.0f} MiB resident at most")


def print_ratios(of: str, ratios: list[float]) -> None:
    middle = statistics.median(ratios)
    print(f"{of}, distill / by hand: {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
