"""PSNR and SSIM of turbo-vaed-mini and of its teacher on held-out clips, and what each frame costs.

    python benchmarks/mini_quality.py --teacher TAEF2_FOLDER --clips FOLDER [--weights FILE] [--record]

FOLDER holds bikes.mp4, cityCC0.mpg and vtest.avi (python tests/fetch_assets.py). From each clip
three stretches of five consecutive whole frames are taken, evenly spread. Both decoders get the
teacher's latents; both are compared with the original frames. With --record the table is kept beside the
recipe, where `edgekit info turbo-vaed-mini --card` finds it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import edgekit
from edgekit.distillation import taef2
from edgekit.distillation.quality import standard_metrics
from edgekit.distillation.video_files import read_frames
from edgekit.measured import Column, Measurement, record, versions_here
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


def stretches(video: Path, length: int) -> list[Tensor]:
    starts = [round((index + 0.5) * length / STRETCHES) - FRAMES for index in range(STRETCHES)]
    return [read_frames(video, start, FRAMES) for start in starts]


def decode_by_frame(decoder: nn.Module, latents: Tensor) -> Tensor:
    return torch.cat([decoder(latent[None]) for latent in latents])


def gmac_per_frame(decoder: nn.Module, latents: Tensor, frames: int) -> float:
    with FlopCounterMode(display=False) as counter:
        decoder(latents)
    return counter.get_total_flops() / 2e9 / frames


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
    student = edgekit.load("turbo-vaed-mini", arguments.weights).module
    encoder = taef2.load(taef2.encoder(), arguments.teacher / "taef2_encoder.pth")
    teacher = taef2.load(taef2.decoder(), arguments.teacher / "taef2_decoder.pth")

    print("| clip | teacher PSNR dB | student PSNR dB | ratio | teacher SSIM | student SSIM |")
    print("|---|---|---|---|---|---|")
    totals: list[tuple[float, ...]] = []
    for name, length in CLIPS.items():
        of_teacher, of_student = standard_metrics(), standard_metrics()
        for frames in stretches(arguments.clips / name, length):
            latents = torch.cat([encoder(frame[None]) for frame in frames])
            video = student(latents[None].transpose(1, 2))
            pictures = [decode_by_frame(teacher, latents), fold_frames(video)]
            for metrics, found in zip((of_teacher, of_student), pictures, strict=True):
                for metric in metrics.values():
                    metric.update(found, frames)
        totals.append(
            tuple(
                float(metrics[kind].compute())
                for kind in ("psnr_db", "ssim")
                for metrics in (of_teacher, of_student)
            )
        )
        print_row(name, *totals[-1])
    totals.append(tuple(sum(column) / len(totals) for column in zip(*totals, strict=True)))
    print_row("mean", *totals[-1])

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
