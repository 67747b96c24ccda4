"""What each choice in the recipe of turbo-vaed-mini is worth: short runs of one budget, one change each.

    python benchmarks/mini_ablations.py --teacher TAEF2_FOLDER --video bbb.mp4 --clips FOLDER --out RUNS

Every run takes the same steps, on the same 256 pictures, from the same seed, on one thread, and is measured on
held-out frames: 256x256 pixels in the middle of five frames of each clip of mini_quality.py. Runs of the time convolutions begin
with the shipped student instead, and move those alone, as the recipe's last stage does. A finished run is kept as
RUNS/NAME.json and not made again; one that was stopped is resumed. At the end all kinds of network are timed in
onnxruntime by turns at 512x512, and what was found is printed as tables; --record keeps them for the card.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mini_quality import CLIPS, FRAMES, decode_by_frame, gmac_per_frame, stretches
from mini_speed import medians_ms
from torch import Tensor, nn

import edgekit
from edgekit.distillation import Loss, Stage, Tapped, Validation, taef2
from edgekit.distillation.appearance import Appearance
from edgekit.distillation.clips_in_memory import ClipSampling, cut_from_folder
from edgekit.distillation.loop import distill
from edgekit.distillation.losses import pyramid_l1
from edgekit.distillation.quality import standard_metrics
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.taps import Batch, Outputs
from edgekit.distillation.turbo_vaed_mini import (
    Clips,
    encode,
    found_and_expected,
    new_student,
    numbers_of,
    pixels_of,
    recorded,
    stages_of,
    teacher_features,
)
from edgekit.measured import Column, Measurement, record, versions_here
from edgekit.recipe import find_recipe
from edgekit.zoo.layers import ResidualBlock, VideoConv, fold_frames, repeat_edge_frames
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini

CROP_PX, WIDEST_PX, HELD_OUT_PX = 96, 144, 256
PICTURES, PER_MOVING = 256, 5
"""Clips that are cut; each one gives a picture, and each fifth one is a clip for the last stage as well."""
SCALES_PX = (2, 4, 8, 16)
COMMAND = "python benchmarks/mini_ablations.py --teacher TAEF2_FOLDER --video bbb.mp4 --clips CLIPS_FOLDER --out RUNS"
RUNS = (
    Column("steps"), Column("PSNR", "dB", 2), Column("of the teacher's", "%", 1), Column("error in 16 px means", "%"),
    Column("GMAC a frame at 256x256", "", 2), Column("onnxruntime, a frame at 512x512", "ms"),
)  # fmt: skip
Change = Callable[[list[Stage]], list[Stage]]


def unchanged(stages: list[Stage]) -> list[Stage]:
    return stages


@dataclass(frozen=True)
class Variant:
    name: str
    changed: str
    """Its row in the table."""
    widths: tuple[int, int, int] = (64, 64, 48)
    blocks: tuple[int, int, int] = (3, 3, 2)
    crop_px: int = CROP_PX
    batch_share: float = 1.0
    """Of the recipe's batch: as many pixels a step at another crop."""
    from_teacher: bool = False
    seed: int = 0
    stages: Change = unchanged
    steps_share: float = 1.0
    time: str = ""
    """A kind of TIME, where the shipped student is taken and only its time convolutions move."""

    @property
    def architecture(self) -> str:
        return f"{self.widths} {self.blocks} {self.time or '5x5x5'}"


def only(*kept: str) -> Change:
    """Without the losses that are not `kept`; a stage with none left gives its steps to the last one."""

    def change(stages: list[Stage]) -> list[Stage]:
        left = [
            replace(stage, losses=[one for one in stage.losses if one.name in kept])
            for stage in stages
            if any(one.name in kept for one in stage.losses)
        ]
        spare = sum(stage.steps for stage in stages) - sum(stage.steps for stage in left)
        return [*left[:-1], replace(left[-1], steps=left[-1].steps + spare)]

    return change


def straight_to_pictures(stages: list[Stage]) -> list[Stage]:
    """The last stage alone, for all steps, on pictures."""
    last = stages[-1]
    picture = [one for one in last.losses if "features" not in one.name]
    trains = tuple(path for path in last.trains if path != "projection")
    steps = sum(stage.steps for stage in stages)
    return [replace(last, losses=picture, trains=trains, steps=steps)]


def flat_l1(batch: Batch, student: Outputs, _teacher: Outputs) -> Tensor:
    return pyramid_l1(student.output, pixels_of(batch), levels=1)


def at_full_size(stages: list[Stage]) -> list[Stage]:
    def one(loss: Loss) -> Loss:
        return Loss("l1", flat_l1) if loss.name == "pyramid_l1" else loss

    return [replace(stage, losses=[one(loss) for loss in stage.losses]) for stage in stages]


FEATURES = tuple(f"{name}_features" for name in ("trunk", "quarter", "half"))
VARIANTS = [
    Variant("recipe", "the recipe"),
    Variant("seed", "the recipe from another seed", seed=1),
    Variant("from-teacher", "trunk begins with the teacher's weights", from_teacher=True),
    Variant("no-features", "no feature matching", stages=straight_to_pictures),
    Variant("width-050", "half the width above the latent's resolution", widths=(64, 32, 24)),
    Variant("width-075", "three quarters of it", widths=(64, 48, 36)),
    Variant("blocks-5", "two more blocks at the latent's resolution", blocks=(5, 3, 2)),
    Variant("no-pyramid", "L1 at full resolution alone", stages=at_full_size),
    Variant("no-squared", "no squared error", stages=only("pyramid_l1", *FEATURES)),
    Variant("crop-48", "crops of 48 pixels, four times as many", crop_px=48, batch_share=4),
    Variant("crop-144", "crops of 144 pixels, half as many", crop_px=144, batch_share=0.5),
    Variant("time-none", "no convolutions across time", time="none"),
    Variant("time-1", "depthwise 1x5x5", time="1x5x5"),
    Variant("time-3", "depthwise 3x5x5", time="3x5x5"),
    Variant("time-5", "depthwise 5x5x5 (the recipe)", time="5x5x5"),
    Variant("time-dense", "dense 3x3x3", time="dense 3x3x3"),
    Variant("steps-half", "half the steps", steps_share=0.5),
    Variant("steps-double", "twice the steps", steps_share=2),
    Variant("steps-four", "four times the steps", steps_share=4),
]  # fmt: skip


class DepthwiseThenPointwise(nn.Module):
    """edgekit.zoo.layers.SeparableVideoConv with another reach in time than in space."""

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.reach = kernel[0] // 2
        padding = (0, kernel[1] // 2, kernel[2] // 2)
        self.depthwise = nn.Conv3d(channels, channels, kernel, padding=padding, groups=channels)
        self.last = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.depthwise(repeat_edge_frames(x, self.reach)))
        return found


def time_blocks(kind: str, channels: int, count: int, eps: float) -> nn.Sequential:
    """Residual blocks that begin as the identity."""

    def conv(channels_in: int, _channels_out: int) -> nn.Module:
        if kind == "dense 3x3x3":
            return VideoConv(channels_in, channels_in)
        numbers = [int(number) for number in kind.split("x")]
        return DepthwiseThenPointwise(channels_in, (numbers[0], numbers[1], numbers[2]))

    made: Any = conv
    blocks = [] if kind == "none" else [ResidualBlock(channels, channels, made, rms_eps=eps) for _ in range(count)]  # fmt: skip
    for block in blocks:
        last = block.conv2.conv if kind == "dense 3x3x3" else block.conv2.last
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*blocks)


def config_of(variant: Variant) -> MiniConfig:
    own = MiniConfig(**find_recipe("turbo-vaed-mini").architecture)
    return replace(own, widths=variant.widths, blocks=variant.blocks)


def student_of(variant: Variant, decoder: nn.Sequential) -> Tapped:
    config = config_of(variant)
    own = new_student(variant.seed, config)
    student = own.module
    assert isinstance(student, TurboVAEDMini)
    if variant.time:
        shipped = edgekit.load("turbo-vaed-mini").module
        student.load_state_dict(shipped.state_dict())
        torch.manual_seed(variant.seed)
        width, count = config.widths[0], config.temporal_blocks
        student.time = time_blocks(variant.time, width, count, config.norm_eps)
        return Tapped(student, forward=own.forward)
    if variant.from_teacher:
        begin_as(student, decoder)
    return own


@torch.no_grad()
def begin_as(student: TurboVAEDMini, decoder: nn.Sequential) -> None:
    """The trunk has the form of the teacher's first layers, but for biases, which become zero."""
    state = dict(decoder.state_dict())
    pairs = {"conv_in": "1"}
    inner = {"widen": "pool.0", "norm": "pool.1", "narrow": "pool.3"}
    inner |= {f"conv{index + 1}": f"conv.{2 * index}" for index in range(3)}
    for number in range(3):
        pairs |= {f"trunk.{number}.{own}": f"{number + 3}.{name}" for own, name in inner.items()}
    for own, name in pairs.items():
        for kind, parameter in student.get_submodule(own).named_parameters():
            taken = state.get(f"{name}.{kind}")
            parameter.copy_(torch.zeros_like(parameter) if taken is None else taken)


def quartered(pixels: Tensor) -> Tensor:
    """K T C H W to 4K T C H/2 W/2: all of each picture, in four parts."""
    rows = torch.cat(pixels.chunk(2, -2))
    return torch.cat(rows.chunk(2, -1))


def middle(pixels: Tensor, size_px: int) -> Tensor:
    top, left = ((side - size_px) // 2 for side in pixels.shape[-2:])
    return pixels[..., top : top + size_px, left : left + size_px].contiguous()


@dataclass(frozen=True)
class Material:
    """What all runs share; made once, then read from files of `folder`."""

    folder: Path
    encoder: nn.Sequential
    decoder: nn.Sequential
    video: Path

    def pictures(self, crop_px: int) -> Clips:
        """With the teacher's features; those of other crops are parts of the same pictures."""
        return self._kept(f"pictures-{crop_px}", lambda: self._taught(crop_px))

    def moving(self) -> Clips:
        return self._kept(
            "moving", lambda: encode(middle(self._filmed()[::PER_MOVING], CROP_PX), self.encoder)
        )

    def _filmed(self) -> Tensor:
        def make() -> Clips:
            sampling = ClipSampling(PICTURES, FRAMES, WIDEST_PX, appearance=Appearance())
            return Clips(cut_from_folder(self.video, sampling, 0), torch.empty(0), {})

        return self._kept("film", make).pixels

    def _taught(self, crop_px: int) -> Clips:
        pixels = self._filmed()[:, :1]
        if crop_px != WIDEST_PX:
            pixels = middle(pixels, CROP_PX)
        if crop_px < CROP_PX:
            pixels = quartered(pixels)
        made = encode(pixels, self.encoder)
        return replace(made, features=teacher_features(made, self.decoder))

    def _kept(self, name: str, make: Callable[[], Clips]) -> Clips:
        path = self.folder / f"{name}.pt"
        if not path.exists():
            print(f"making {name}", flush=True)
            partial = path.with_suffix(".partial")
            torch.save(vars(make()), partial)
            partial.replace(path)
        return Clips(**torch.load(path, weights_only=True, mmap=True))


@dataclass(frozen=True)
class HeldOut:
    """Frames, T 3 H W, with latents, T 32 H/8 W/8, by clip; and smaller crops, for curves."""

    frames: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    crops: Clips


@torch.inference_mode()
def held_out(folder: Path, encoder: nn.Module) -> HeldOut:
    frames = {
        name: middle(stretches(folder / name, length)[1], HELD_OUT_PX)
        for name, length in CLIPS.items()
    }
    latents = {
        name: torch.cat([encoder(one[None]) for one in clip]) for name, clip in frames.items()
    }
    crops = [middle(clip, CROP_PX) for clip in frames.values()]
    return HeldOut(frames, latents, encode((torch.stack(crops) * 255).round().byte(), encoder))


@torch.inference_mode()
def measured(decode: Callable[[Tensor], Tensor], data: HeldOut) -> dict[str, Any]:
    """PSNR by clip and their mean; and the share of the squared error that lies in means over so many pixels squared."""
    psnr: dict[str, float] = {}
    shares: dict[str, list[float]] = {str(scale): [] for scale in SCALES_PX}
    for name, frames in data.frames.items():
        found = decode(data.latents[name]).clamp(0, 1)
        metric = standard_metrics()["psnr_db"]
        metric.update(found, frames)
        psnr[name] = float(metric.compute())
        error = found - frames
        for scale in SCALES_PX:
            means = nn.functional.avg_pool2d(error, scale)
            shares[str(scale)].append(float(means.square().mean() / error.square().mean()))
    mean = sum(psnr.values()) / len(psnr)
    return {
        "psnr_by_clip": psnr,
        "psnr": mean,
        "in_means": {scale: sum(found) / len(found) for scale, found in shares.items()},
    }


def run(variant: Variant, asked: argparse.Namespace, material: Material, data: HeldOut) -> None:
    path = asked.out / f"{variant.name}.json"
    if path.exists():
        return
    own = student_of(variant, material.decoder)
    steps = asked.time_steps if variant.time else round(asked.steps * variant.steps_share)
    numbers = numbers_of()
    if variant.time:
        last = replace(numbers.stages["in-time"], steps=steps)
        numbers = replace(numbers, stages={**numbers.stages, "in-time": last})
        stages = stages_of(numbers, material.moving())[3:]
        pictures = stages[0].data
    else:
        halves = {name: one for name, one in numbers.stages.items() if name != "in-time"}
        numbers = replace(numbers, stages=halves).scaled_to(steps)
        numbers = replace(numbers, stages=numbers.stages | {"in-time": numbers_of().stages["in-time"]})  # fmt: skip
        pictures = material.pictures(variant.crop_px)
        stages = variant.stages(stages_of(numbers, pictures)[:3])
        stages = [replace(one, batch_size=max(1, round(one.batch_size * variant.batch_share))) for one in stages]  # fmt: skip
    folder = asked.out / variant.name
    started = time.process_time()
    if variant.time != "none":
        distill(
            own, recorded, pictures, stages, run=folder, seed=variant.seed, resume=True,
            validation=Validation(data.crops, {"psnr_db": standard_metrics()["psnr_db"]}, found_and_expected,
                                  every=max(1, steps // 8), batch_size=1),
            save_every=max(1, steps // 8), progress=lambda line: print(f"{variant.name}  {line}", flush=True),
        )  # fmt: skip
    seconds = time.process_time() - started
    student = own.module.eval()
    records = read_metrics(folder)
    found = {
        "name": variant.name, "changed": variant.changed, "architecture": variant.architecture,
        "steps": 0 if variant.time == "none" else steps, "processor_seconds": seconds,
        "peak_memory_bytes": max((one.get("peak_memory_bytes", 0) for one in records), default=0),
        "curve": [[one["stage"], one["step"], one["validation"]["psnr_db"]] for one in records if "validation" in one],
        "parameters": sum(one.numel() for one in student.parameters()),
        "gmac": gmac_per_frame(student, torch.zeros(1, 32, FRAMES, 32, 32), FRAMES),
        **measured(lambda latents: fold_frames(student(latents[None].transpose(1, 2))), data),
    }  # fmt: skip
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{variant.name}: {found['psnr']:.2f} dB in {seconds:.0f} s of processor time", flush=True
    )


def anchors(asked: argparse.Namespace, material: Material, data: HeldOut) -> None:
    """The teacher and the shipped student, on the same frames."""
    shipped = edgekit.load("turbo-vaed-mini").module
    latents = torch.zeros(1, 32, FRAMES, 32, 32)
    decode: Mapping[str, Callable[[Tensor], Tensor]] = {
        "teacher": lambda z: decode_by_frame(material.decoder, z),
        "shipped": lambda z: fold_frames(shipped(z[None].transpose(1, 2))),
    }
    gmac = {
        "teacher": gmac_per_frame(material.decoder, latents[0, :, :1].transpose(0, 1), 1),
        "shipped": gmac_per_frame(shipped, latents, FRAMES),
    }
    for name, how in decode.items():
        path = asked.out / f"{name}.json"
        if not path.exists():
            found = {"name": name, "gmac": gmac[name], **measured(how, data)}
            path.write_text(json.dumps(found, indent=1) + "\n")


def time_all(asked: argparse.Namespace, material: Material) -> dict[str, float]:
    """Milliseconds a frame by kind of network."""
    path = asked.out / "speed.json"
    chosen = {one.architecture: one for one in reversed(VARIANTS)}
    if path.exists():
        kept: dict[str, float] = json.loads(path.read_text())
        if set(kept) == {*chosen, "teacher"}:
            return kept
    networks = {name: student_of(one, material.decoder).module for name, one in chosen.items()}
    found = medians_ms(networks, material.decoder, asked.rounds)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def table(rows: Sequence[Mapping[str, Any]], speed: Mapping[str, float], ceiling: float) -> None:
    print("| run | steps | held-out PSNR dB | of the teacher's | error in 16 px means | GMAC a frame at 256x256 | "
          "onnxruntime ms a frame at 512x512 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ms = speed[row["architecture"]]
        print(
            f"| {row['changed']} | {row['steps']} | {row['psnr']:.2f} | {row['psnr'] / ceiling:.1%} | "
            f"{row['in_means']['16']:.0%} | {row['gmac']:.2f} | {ms:.0f} |"
        )
    print()


def keep(told: Mapping[str, Any], speed: Mapping[str, float], ceiling: float) -> None:
    """For the card."""

    def rows(*, of_time: bool) -> dict[str, list[float]]:
        found = [
            told[one.name] for one in VARIANTS if bool(one.time) == of_time and one.name in told
        ]
        return {
            one["changed"]: [
                one["steps"], one["psnr"], 100 * one["psnr"] / ceiling, 100 * one["in_means"]["16"], one["gmac"],
                speed[one["architecture"]],
            ]
            for one in found
        }  # fmt: skip

    anchors = {"teacher": told["teacher"], "student": told["shipped"]}
    scales = tuple(Column(f"{scale}x{scale}", "%") for scale in SCALES_PX)
    shares = {name: [100 * share for share in one["in_means"].values()] for name, one in anchors.items()}  # fmt: skip
    psnr = {name: [one["psnr"]] for name, one in anchors.items()}
    here = versions_here()
    recipe = find_recipe("turbo-vaed-mini").path
    for key, measurement in {
        "ablations": Measurement(COMMAND, "run", RUNS, rows(of_time=False), here),
        "time-stage": Measurement(COMMAND, "run", RUNS, rows(of_time=True), here),
        "detail": Measurement(
            COMMAND, "share of the squared error in means over", scales, shares, here
        ),
        "detail-psnr": Measurement(COMMAND, "decoder", (Column("PSNR", "dB", 2),), psnr, here),
    }.items():
        record(recipe, key, measurement)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name in ("teacher", "video", "clips", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--time-steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it for the model's card")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in VARIANTS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    encoder = taef2.load(taef2.encoder(), asked.teacher / "taef2_encoder.pth")
    decoder = taef2.load(taef2.decoder(), asked.teacher / "taef2_decoder.pth")
    material = Material(asked.out, encoder, decoder, asked.video)
    data = held_out(asked.clips, encoder)
    anchors(asked, material, data)
    chosen = [one for one in VARIANTS if asked.only is None or one.name in asked.only]
    for variant in chosen:
        run(variant, asked, material, data)
    speed = time_all(asked, material)
    told = {path.stem: json.loads(path.read_text()) for path in asked.out.glob("*.json") if path.stem != "speed"}  # fmt: skip
    ceiling = told["teacher"]["psnr"]
    table([told[one.name] for one in chosen if not one.time], speed, ceiling)
    table([told[one.name] for one in chosen if one.time], speed, ceiling)
    for name in ("teacher", "shipped"):
        one = told[name]
        ms = speed["teacher" if name == "teacher" else VARIANTS[0].architecture]
        print(f"{name}: {one['psnr']:.2f} dB, {one['psnr'] / ceiling:.1%}, of its squared error in means over "
              f"{', '.join(f'{scale}x{scale} pixels {share:.0%}' for scale, share in one['in_means'].items())}; "
              f"{one['gmac']:.2f} GMAC, {ms:.0f} ms")  # fmt: skip
    peak = max(one.get("peak_memory_bytes", 0) for one in told.values())
    print(f"memory of training: {peak / 2**20:.0f} MiB resident at most")
    if asked.record:
        keep(told, speed, ceiling)


if __name__ == "__main__":
    main()
