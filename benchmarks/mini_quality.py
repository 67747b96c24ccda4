"""PSNR and SSIM of turbo-vaed-mini and of its teacher on held-out clips, and what each frame costs.

    python benchmarks/mini_quality.py --teacher TAEF2_FOLDER --clips FOLDER [--weights FILE] [--record]

FOLDER holds bikes.mp4, cityCC0.mpg and vtest.avi (python tests/fetch_assets.py). From each clip
three stretches of five consecutive whole frames are taken, evenly spread. Both decoders get the
teacher's latents; both are compared with the original frames, and so is the student without its convolutions across
time, which its training's last stage moved alone: as it was before that stage. The shipped sample is decoded as well.
With --record the tables are kept beside the recipe, where `edgekit info turbo-vaed-mini --card` finds them.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import edgekit
from edgekit.arrays import to_pixels
from edgekit.demo import psnr_db, read_sample
from edgekit.distillation import taef2
from edgekit.distillation.quality import standard_metrics
from edgekit.distillation.video_files import read_frames
from edgekit.measured import Column, Measurement, record, versions_here
from edgekit.model import Model
from edgekit.recipe import find_recipe
from edgekit.zoo.layers import fold_frames

CLIPS = {"bikes.mp4": 250, "cityCC0.mpg": 190, "vtest.avi": 795}
"""Held-out clips and their lengths in frames."""
STRETCHES, FRAMES = 3, 5
COMMAND = "python benchmarks/mini_quality.py --teacher TAEF2_FOLDER --clips CLIPS_FOLDER"
QUALITY = (
    Column("teacher PSNR", "dB", 2), Column("student PSNR", "dB", 2), Column("ratio", "%", 1),
    Column("teacher SSIM", "", 4), Column("student SSIM", "", 4),
)  # fmt: skip
COST = (Column("parameters"), Column("GMAC per frame at 256x256", "", 2))
GAIN = (Column("PSNR gained by the convolutions across time", "dB", 2),)
SAMPLE = (Column("PSNR", "dB", 1),)


def stretches(video: Path, length: int) -> list[Tensor]:
    starts = [round((index + 0.5) * length / STRETCHES) - FRAMES for index in range(STRETCHES)]
    return [read_frames(video, start, FRAMES) for start in starts]


def decode_by_frame(decoder: nn.Module, latents: Tensor) -> Tensor:
    return torch.cat([decoder(latent[None]) for latent in latents])


def gmac_per_frame(decoder: nn.Module, latents: Tensor, frames: int) -> float:
    with FlopCounterMode(display=False) as counter:
        decoder(latents)
    return counter.get_total_flops() / 2e9 / frames


def without_time(student: nn.Module) -> nn.Module:
    """The time convolutions are residual, so leaving them out leaves the network of the stage before theirs."""
    found = copy.deepcopy(student)
    found.time = nn.Sequential()
    return found


@torch.inference_mode()
def sample_psnr_db(model: Model) -> dict[str, list[float]]:
    latent, frames, teacher = read_sample()
    video = model.module(torch.from_numpy(latent))
    student = to_pixels(video[0].numpy(), model.outputs[0])
    return {"student": [psnr_db(student, frames)], "teacher": [psnr_db(teacher, frames)]}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--record", action="store_true", help="keep it for the model's card")
    arguments = parser.parse_args()
    if arguments.record and arguments.weights:
        parser.error("the card is of the shipped weights; leave --weights or --record away")
    model = edgekit.load("turbo-vaed-mini", arguments.weights)
    student = model.module
    still = without_time(student)
    encoder = taef2.load(taef2.encoder(), arguments.teacher / "taef2_encoder.pth")
    teacher = taef2.load(taef2.decoder(), arguments.teacher / "taef2_decoder.pth")

    print("| clip | teacher PSNR dB | student PSNR dB | ratio | teacher SSIM | student SSIM |")
    print("|---|---|---|---|---|---|")
    totals: list[tuple[float, ...]] = []
    gained: list[float] = []
    for name, length in CLIPS.items():
        of_teacher, of_student, of_still = (standard_metrics() for _ in range(3))
        for frames in stretches(arguments.clips / name, length):
            latents = torch.cat([encoder(frame[None]) for frame in frames])
            clip = latents[None].transpose(1, 2)
            found = [decode_by_frame(teacher, latents), *(fold_frames(one(clip)) for one in (student, still))]  # fmt: skip
            for metrics, pictures in zip((of_teacher, of_student, of_still), found, strict=True):
                for metric in metrics.values():
                    metric.update(pictures, frames)
        totals.append(
            tuple(
                float(metrics[kind].compute())
                for kind in ("psnr_db", "ssim")
                for metrics in (of_teacher, of_student)
            )
        )
        gained.append(totals[-1][1] - float(of_still["psnr_db"].compute()))
        print_row(name, *totals[-1])
    gained.append(sum(gained) / len(gained))
    totals.append(tuple(sum(column) / len(totals) for column in zip(*totals, strict=True)))
    print_row("mean", *totals[-1])
    gains = dict(zip((*CLIPS, "mean"), gained, strict=True))
    print(
        "\ngained by the convolutions across time: "
        + ", ".join(f"{name} {db:.2f} dB" for name, db in gains.items())
    )
    sample = sample_psnr_db(model)
    print(
        "the shipped sample: " + ", ".join(f"{name} {db:.2f} dB" for name, (db,) in sample.items())
    )

    square = torch.zeros(1, 32, 32, 32)
    teacher_gmac = gmac_per_frame(teacher, square, 1)
    student_gmac = gmac_per_frame(student, square[:, :, None].expand(-1, -1, 5, -1, -1), 5)
    print(f"\nparameters: student {count(student):,}, teacher decoder {count(teacher):,}")
    print(
        f"GMAC per frame at 256x256: student {student_gmac:.2f}, teacher decoder {teacher_gmac:.2f} "
        f"({teacher_gmac / student_gmac:.1f} times)"
    )
    if arguments.record:
        costs = {
            "student": [count(student), student_gmac],
            "teacher": [count(teacher), teacher_gmac],
        }
        rows = {
            name: [t, s, 100 * s / t, *ssim]
            for name, (t, s, *ssim) in zip((*CLIPS, "mean"), totals, strict=True)
        }
        recipe = find_recipe("turbo-vaed-mini").path
        record(recipe, "clips", Measurement(COMMAND, "clip", QUALITY, rows, versions_here()))
        record(recipe, "cost", Measurement(COMMAND, "decoder", COST, costs, versions_here()))
        record(recipe, "sample", Measurement(COMMAND, "decoder", SAMPLE, sample, versions_here()))
        told = {name: [db] for name, db in gains.items()}
        record(
            recipe, "time-convolutions", Measurement(COMMAND, "clip", GAIN, told, versions_here())
        )


def print_row(name: str, psnr_t: float, psnr_s: float, ssim_t: float, ssim_s: float) -> None:
    ratio = psnr_s / psnr_t
    print(
        f"| {name} | {psnr_t:.2f} | {psnr_s:.2f} | {ratio:.1%} | {ssim_t:.4f} | {ssim_s:.4f} |",
        flush=True,
    )


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
