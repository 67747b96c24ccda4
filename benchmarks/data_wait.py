"""Whether training waits for its data: clips of 17 frames at 256x256, decoded by two workers.

    python benchmarks/data_wait.py FILMS [--workers 2] [--steps 20]

FILMS is a video or a folder of some, such as bikes.mp4, cityCC0.mpg and vtest.avi (python tests/fetch_assets.py).
First what the workers deliver alone, in clips per second; then the share of its time that the loop waits, while
it trains a student on L1 with noise for latents, one clip a step. The student is turbo-vaed-ltx at a quarter of its
width, a sixteenth of its work, so that the loop is hungrier than that of the recipe on the same processor. The first
steps, in which workers start, are left out. Decoding and training share the processor; with a GPU they would not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from edgekit.distillation import Loss, Stage, Tapped
from edgekit.distillation.clips_on_demand import Augmentation, VideoClips
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.latents import as_video
from edgekit.distillation.loop import distill
from edgekit.distillation.run_folder import read_metrics
from edgekit.recipe import find_recipe
from edgekit.zoo.turbo_vaed import TurboVAEDConfig, TurboVAEDDecoder

FRAMES, SIZE_PX, WARM_UP = 17, 256, 4


class WithLatents:
    """Clips with noise of the size of LTX's latent."""

    frames = FRAMES

    def __init__(self, clips: VideoClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        latent = torch.randn(128, FRAMES // 8 + 1, SIZE_PX // 32, SIZE_PX // 32)
        return {"pixels": self.clips[index], "latent": latent}


def difference(batch: Any, student: Any, _teacher: Any) -> Tensor:
    return F.l1_loss(student.output, as_video(batch["pixels"]))


def delivered(data: WithLatents, workers: int, clips: int) -> float:
    """Clips per second, after the first ones."""
    loader = iter(DataLoader(data, 1, shuffle=True, num_workers=workers))
    for _ in range(WARM_UP):
        next(loader)
    started = time.perf_counter()
    for _ in range(clips):
        next(loader)
    return clips / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    clips = VideoClips(asked.videos, FRAMES, SIZE_PX, Augmentation(), on_damage="skip")
    print(f"{len(clips)} clips of one scene each", flush=True)
    data = WithLatents(clips)
    alone = delivered(data, asked.workers, min(40, max(1, len(clips) - WARM_UP)))
    print(f"{asked.workers} workers alone deliver {alone:.1f} clips/s", flush=True)
    sizes = dict(find_recipe("turbo-vaed-ltx").architecture)
    sizes["widths"] = tuple(width // 4 for width in sizes["widths"])
    network = TurboVAEDDecoder(TurboVAEDConfig(**sizes))
    student = Tapped(network, forward=lambda module, batch: module(batch["latent"]))
    stage = Stage("wait", [Loss("difference", difference)], WARM_UP + asked.steps, batch_size=1)
    with tempfile.TemporaryDirectory() as run:
        distill(
            student, None, data, [stage], run=run, workers=asked.workers, log_every=1,
            hardware=Hardware("cpu"), save_every=10_000,
        )  # fmt: skip
        records = read_metrics(Path(run))[WARM_UP:]
    waits = [record["data_wait"] for record in records]
    speed = statistics.median(record["frames_per_second"] for record in records)
    print(f"training takes {speed / FRAMES:.2f} clips/s ({speed:.1f} frames/s)")
    print(
        f"data wait: {statistics.fmean(waits):.1%} of the time (at most {max(waits):.1%} of a step)"
    )


if __name__ == "__main__":
    main()
