"""Distil `turbo-vaed-mini` from TAEF2: two halves on the teacher's features, then the whole.

    python -m edgekit.distillation.turbo_vaed_mini --teacher taef2/ --video bbb.mp4 --run run/

The teacher's encoder gives the latents and its decoder gives features to match; the pixel target
is the video itself, as in Turbo-VAED (arXiv 2508.09136, section 3). No teacher tensor is copied
into the student: every stage starts from its own initialisation.

The halves do not wait for each other: `--part trunk` and `--part upper` may run at the same time,
on a core each, before the command without `--part`. The result is the same.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit.distillation import taef2
from edgekit.distillation.appearance import Appearance
from edgekit.distillation.clips import ClipSampling, cut_clips
from edgekit.distillation.loop import LoopOptions, Losses, Stage, train
from edgekit.distillation.losses import pyramid_l1, relative_feature_error
from edgekit.errors import UsageError
from edgekit.recipe import find_recipe
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini

LATENT, QUARTER, HALF = 6, 11, 16
"""Where the teacher's decoder layers at latent, a quarter and half resolution end."""
SIZE_PX = 160
"""Side of a training picture, whole to the student: its borders are trained, its statistics are its own."""
TRUNK = ("student.conv_in", "student.trunk")
UPPER = ("student.up4", "student.up2", "student.paint8", "student.paint4", "student.paint2",
         "project4", "project2")  # fmt: skip


@dataclass(frozen=True)
class Clips:
    """Pixels, uint8 K T 3 H W, and the teacher's latents of them, float16 K T 32 H/8 W/8."""

    pixels: Tensor
    latents: Tensor

    def draw(self, clips: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random clips: their indices, latents N 32 T h w, and frames N·T 3 H W in [0, 1]."""
        chosen = torch.randint(len(self.pixels), (clips,), generator=generator)
        frames = self.pixels[chosen].flatten(0, 1).float() / 255
        return chosen, self.latents[chosen].transpose(1, 2).float(), frames


@dataclass(frozen=True)
class TeacherFeatures:
    """What the teacher's decoder holds of K single frames at 1/8, 1/4 and 1/2: float16 K 64 h w."""

    latent: Tensor
    quarter: Tensor
    half: Tensor


@torch.inference_mode()
def encode_clips(video: Path, sampling: ClipSampling, encoder: nn.Module, seed: int) -> Clips:
    pixels = cut_clips(video, sampling, seed)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    latents = [
        encoder((clip.float() / 255).contiguous(memory_format=torch.channels_last)).half()
        for clip in pixels
    ]
    return Clips(pixels, torch.stack(latents).contiguous())


@torch.inference_mode()
def teacher_features(pictures: Clips, teacher: nn.Sequential) -> TeacherFeatures:
    teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept: list[list[Tensor]] = [[], [], []]
    for latents in pictures.latents[:, 0].float().split(16):
        latent = teacher[:LATENT](latents.contiguous(memory_format=torch.channels_last))
        quarter = teacher[LATENT:QUARTER](latent)
        half = teacher[QUARTER:HALF](quarter)
        for features, kind in zip((latent, quarter, half), kept, strict=True):
            features = features.half().contiguous(memory_format=torch.contiguous_format)
            kind.append(features)
    return TeacherFeatures(*map(torch.cat, kept))


class Apprentice(nn.Module):
    """The student, and projections of its features to the teacher's that are not shipped."""

    def __init__(self) -> None:
        super().__init__()
        config = MiniConfig(**find_recipe("turbo-vaed-mini").architecture)
        self.student = TurboVAEDMini(config)
        self.project4 = nn.Conv2d(config.widths[1], taef2.WIDTH, 1)
        self.project2 = nn.Conv2d(config.widths[2], taef2.WIDTH, 1)
        for block in [*self.student.up4, *self.student.up2]:
            if hasattr(block, "conv2"):  # a deep sum of blocks starts near its first term
                with torch.no_grad():
                    block.conv2.weight.mul_(0.1)
        for block in self.student.time:  # so that frames train as if it were absent
            last = block.get_submodule("conv2.pointwise_conv")
            for parameter in last.parameters():
                nn.init.zeros_(parameter)


class Lesson:
    """Draws batches and weighs what the student gets wrong."""

    def __init__(self, pictures: Clips, clips: Clips, features: TeacherFeatures) -> None:
        self.pictures = pictures
        self.clips = clips
        self.features = features

    def trunk(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """The part at latent resolution, on the teacher's features there."""
        assert isinstance(model, Apprentice)
        chosen, latents, _ = self.pictures.draw(8, generator)
        own = model.student.trunk_features(_channels_last(latents))
        return {
            "latent_features": relative_feature_error(own, self.features.latent[chosen].float())
        }

    def upper(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """The part above it, from the teacher's features at latent resolution to pixels."""
        assert isinstance(model, Apprentice)
        chosen, _, frames = self.pictures.draw(2, generator)
        return self._painted(model, self.features.latent[chosen].float(), chosen, frames)

    def joined(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """Both, the upper part on what the lower one computes."""
        assert isinstance(model, Apprentice)
        chosen, latents, frames = self.pictures.draw(2, generator)
        own = model.student.trunk_features(_channels_last(latents))
        error = relative_feature_error(own, self.features.latent[chosen].float())
        losses = {"latent_features": 0.3 * error}
        return losses | self._painted(model, own, chosen, frames)

    def in_time(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """Short clips through the whole student, convolutions across time included."""
        assert isinstance(model, Apprentice)
        _, latents, frames = self.clips.draw(1, generator)
        features = model.student.across_time(model.student.trunk_features(latents), 1)
        pictures, _, _ = model.student.paint(_channels_last(features))
        return picture_losses(pictures, frames)

    def _painted(self, model: Apprentice, own: Tensor, chosen: Tensor, frames: Tensor) -> Losses:
        pictures, quarter, half = model.student.paint(_channels_last(own))
        features = self.features
        quarter_error = relative_feature_error(
            model.project4(quarter), features.quarter[chosen].float()
        )
        half_error = relative_feature_error(model.project2(half), features.half[chosen].float())
        losses = {"quarter_features": 0.3 * quarter_error, "half_features": 0.3 * half_error}
        return losses | picture_losses(pictures, frames)


def _channels_last(x: Tensor) -> Tensor:
    """The layout in which convolutions train fastest on a CPU."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def picture_losses(pictures: Tensor, target: Tensor) -> Losses:
    squared = (pictures - target).square().mean()
    return {"pyramid_l1": pyramid_l1(pictures, target, levels=4), "squared": 20 * squared}


@dataclass(frozen=True)
class StepCounts:
    trunk: int = 5000
    upper: int = 2500
    joined: int = 9000
    in_time: int = 400


def distil(
    lesson: Lesson, steps: StepCounts, run: Path, seed: int, part: str | None = None
) -> TurboVAEDMini | None:
    """Train in the run folder, going on where an earlier call on it stopped.

    `without-time.safetensors` there is the student before its convolutions across time moved: what
    they are worth is the difference.

    Returns the student, or None where only the half `part`, "trunk" or "upper", was asked for.
    """
    options = LoopOptions(seed=seed)
    halves = {
        "trunk": (TRUNK, Stage("trunk", steps.trunk, lesson.trunk, TRUNK, 4e-3)),
        "upper": (UPPER, Stage("upper", steps.upper, lesson.upper, UPPER, 3e-3)),
    }
    model = _apprentice(seed)
    for half, (names, stage) in halves.items():
        if part in (None, half):
            trained = train(_apprentice(seed), [stage], run / half, options)
            for name in names:
                model.get_submodule(name).load_state_dict(trained.get_submodule(name).state_dict())
    if part is not None:
        return None
    joined = Stage("joined", steps.joined, lesson.joined, (*TRUNK, *UPPER), 2e-3)
    frames = train(model, [joined], run / "joined", options)
    assert isinstance(frames, Apprentice)
    save_student(frames.student, run / "without-time.safetensors")
    # Alone: clips are few and alike, and what single frames taught the rest would fade.
    in_time = Stage(
        "in-time", steps.in_time, lesson.in_time, ("student.time",), 1e-3, ema_decay=0.98
    )
    average = train(frames, [in_time], run / "in-time", options)
    assert isinstance(average, Apprentice)
    return average.student


def save_student(student: TurboVAEDMini, path: Path) -> None:
    save_file({key: value.contiguous() for key, value in student.state_dict().items()}, str(path))


def _apprentice(seed: int) -> Apprentice:
    torch.manual_seed(seed)
    return Apprentice()


@dataclass(frozen=True)
class LessonOptions:
    pictures: int = 3000
    clips: int = 160
    seed: int = 0


def prepare_lesson(teacher: Path, video: Path, options: LessonOptions, cache: Path) -> Lesson:
    """Pictures, clips and teacher features; made once, then mapped from the file `cache`.

    Raises UsageError if `cache` was made with other options or from a video of another name.
    """
    made_from = f"{video.name}, {options}"
    if not cache.exists():
        encoder = taef2.load(taef2.encoder(), _existing(teacher / "taef2_encoder.pth"))
        decoder = taef2.load(taef2.decoder(), _existing(teacher / "taef2_decoder.pth"))
        still = ClipSampling(options.pictures, frames=1, size_px=SIZE_PX, appearance=Appearance())
        moving = ClipSampling(options.clips, frames=5, size_px=SIZE_PX, appearance=Appearance())
        made = encode_clips(_existing(video), still, encoder, 2 * options.seed)
        parts = (
            made,
            encode_clips(video, moving, encoder, 2 * options.seed + 1),
            teacher_features(made, decoder),
        )
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(".partial")
        torch.save({"made_from": made_from, "parts": [vars(part) for part in parts]}, partial)
        partial.replace(cache)
    saved = torch.load(cache, weights_only=True, mmap=True)
    if saved["made_from"] != made_from:
        raise UsageError(
            f"{cache} was made from {saved['made_from']}, and {made_from} was asked for; "
            "give another run folder."
        )
    pictures, clips, features = saved["parts"]
    return Lesson(Clips(**pictures), Clips(**clips), TeacherFeatures(**features))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the TAEF2 files")
    parser.add_argument("--video", type=Path, required=True, help="bbb.mp4")
    parser.add_argument(
        "--run", type=Path, required=True, help="run folder; continued if it exists"
    )
    parser.add_argument("--part", choices=("trunk", "upper"), help="train one half only")
    for field in (*fields(LessonOptions), *fields(StepCounts)):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(
            option, type=int, default=field.default, help=f"default {field.default}"
        )
    arguments = parser.parse_args()
    run = arguments.run
    try:
        options = LessonOptions(arguments.pictures, arguments.clips, arguments.seed)
        lesson = prepare_lesson(arguments.teacher, arguments.video, options, run / "lesson.pt")
        steps = StepCounts(arguments.trunk, arguments.upper, arguments.joined, arguments.in_time)
        student = distil(lesson, steps, run, options.seed, arguments.part)
    except UsageError as error:
        sys.exit(f"edgekit: {error}")
    if student is not None:
        save_student(student, run / "turbo-vaed-mini.safetensors")


if __name__ == "__main__":
    main()
