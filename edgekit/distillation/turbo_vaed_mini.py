"""Distil `turbo-vaed-mini` from TAEF2: two halves on the teacher's features, then the whole.

    edgekit distill turbo-vaed-mini --data clips/ --teacher taef2/

The teacher's encoder gives the latents and its decoder gives features to match; the pixel target
is the video itself, as in Turbo-VAED (arXiv 2508.09136, section 3). What the teacher computes is kept
in the run folder: it costs five times what the student does. No teacher tensor is copied into the
student: every stage starts from its own initialisation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.contract import Size
from edgekit.distillation import taef2
from edgekit.distillation.appearance import Appearance
from edgekit.distillation.clips_in_memory import ClipSampling, cut_from_folder
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.loop import Distilled, distill
from edgekit.distillation.losses import Loss, Match, pyramid_l1, relative_feature_error
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.optimisers import MuonAndAdamW
from edgekit.distillation.run_folder import STUDENT, require_resumed
from edgekit.distillation.schedules import Cosine
from edgekit.distillation.stage import Stage, Validation
from edgekit.distillation.taps import Batch, Outputs, Tapped
from edgekit.errors import UsageError
from edgekit.model import model_of_recipe
from edgekit.recipe import find_recipe
from edgekit.zoo.layers import fold_frames
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini

NAME = "turbo-vaed-mini"
CACHE = "lesson.pt"
STAGES = ("trunk", "upper", "joined", "in-time")
LATENT, QUARTER, HALF = 6, 11, 16
"""Where the teacher's decoder layers at latent, a quarter and half resolution end."""
TRUNK = ("conv_in", "trunk")
UPPER = ("up4", "up2", "paint8", "paint4", "paint2", "projection")


@dataclass(frozen=True)
class StageNumbers:
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    ema: float = 0.998
    clip_norm: float = 1.0


@dataclass(frozen=True)
class DataNumbers:
    pictures: int
    clips: int
    frames: int
    size_px: int


@dataclass(frozen=True)
class WeightNumbers:
    features: float
    squared: float


@dataclass(frozen=True)
class Numbers:
    """models/distillation/turbo-vaed-mini.toml"""

    data: DataNumbers
    weights: WeightNumbers
    stages: Mapping[str, StageNumbers]

    def scaled_to(self, steps: int) -> Numbers:
        """`steps` in all, shared by the stages as before, at least one each.

        Warm-up and the reach of the average shrink alike: one that reaches back over more steps than
        there are returns a student that has hardly moved.
        """
        share = steps / sum(stage.steps for stage in self.stages.values())
        return replace(
            self,
            stages={
                name: replace(
                    stage,
                    steps=max(1, round(stage.steps * share)),
                    warmup=max(1, round(stage.warmup * share)),
                    ema=max(0.0, 1 - (1 - stage.ema) / share),
                )
                for name, stage in self.stages.items()
            },
        )

    def shared_by(self, processes: int) -> Numbers:
        """Batches as large as before, or larger by what makes equal shares."""
        stages = {
            name: replace(stage, batch_size=-(-stage.batch_size // processes) * processes)
            for name, stage in self.stages.items()
        }
        return replace(self, stages=stages)


def numbers_of(file: Path | None = None) -> Numbers:
    """Raises UsageError for a file that lacks one of them, or a stage."""
    numbers = read_numbers(Numbers, NAME, file)
    if set(numbers.stages) != set(STAGES):
        raise UsageError(
            f"{file} has the stages {', '.join(numbers.stages)}; {NAME} has {', '.join(STAGES)}."
        )
    return numbers


@dataclass(frozen=True)
class Clips:
    """Clips with the teacher's latents, and of single frames its features: a data set.

    Pixels are uint8 K T 3 H W, latents float16 K T 32 H/8 W/8, features at 1/8, 1/4 and 1/2 float16
    K 64 h w by name.
    """

    pixels: Tensor
    latents: Tensor
    features: Mapping[str, Tensor]

    @property
    def frames(self) -> int:
        return self.pixels.shape[1]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = {"pixels": self.pixels[index], "latent": self.latents[index].transpose(0, 1)}
        return item | {name: values[index] for name, values in self.features.items()}


def recorded(batch: Batch) -> Outputs:
    """The teacher's features, which the data set holds."""
    taps = {name: batch[name].float() for name in ("trunk", "quarter", "half") if name in batch}
    return Outputs(None, taps, "teacher")


def trunk_alone(student: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(student, TurboVAEDMini)
    return student.trunk_features(_channels_last(batch["latent"].float()))


def upper_alone(student: nn.Module, batch: Batch) -> Tensor:
    """Pictures from the teacher's features at latent resolution."""
    assert isinstance(student, TurboVAEDMini)
    return student.paint(_channels_last(batch["trunk"].float()))[0]


def single_frames(student: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(student, TurboVAEDMini)
    return student.paint(trunk_alone(student, batch))[0]


def whole(student: nn.Module, batch: Batch) -> Tensor:
    return fold_frames(student(batch["latent"].float()))


def _channels_last(x: Tensor) -> Tensor:
    """The layout in which convolutions train fastest on a CPU."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def pixels_of(batch: Batch) -> Tensor:
    """N·T 3 H W in [0, 1]."""
    return batch["pixels"].flatten(0, 1).float() / 255


def pyramid(batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
    return pyramid_l1(student.output, pixels_of(batch), levels=4)


def squared(batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
    return (student.output - pixels_of(batch)).square().mean()


def features(tap: str, weight: float) -> Loss:
    return Loss(f"{tap}_features", Match(tap, relative_feature_error), weight)


def new_student(seed: int, config: MiniConfig | None = None) -> Tapped:
    """Of the recipe's sizes, unless others are given."""
    torch.manual_seed(seed)
    config = config or MiniConfig(**find_recipe(NAME).architecture)
    student = TurboVAEDMini(config)
    for block in [*student.up4, *student.up2]:
        if hasattr(block, "conv2"):  # a deep sum of blocks starts near its first term
            with torch.no_grad():
                block.conv2.weight.mul_(0.1)
    for block in student.time:  # so that frames train as if it were absent
        last = block.get_submodule("conv2.pointwise_conv")
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    projections = {
        "quarter": nn.Conv2d(config.widths[1], taef2.WIDTH, 1),
        "half": nn.Conv2d(config.widths[2], taef2.WIDTH, 1),
    }
    taps = {"trunk": "trunk", "quarter": "up4", "half": "up2"}
    return Tapped(student, taps, projections, whole)


def stages_of(numbers: Numbers, clips: Clips) -> list[Stage]:
    weight = numbers.weights.features
    picture = [Loss("pyramid_l1", pyramid), Loss("squared", squared, numbers.weights.squared)]
    above = [features("quarter", weight), features("half", weight)]

    def stage(name: str, losses: list[Loss], trains: tuple[str, ...], **how: Any) -> Stage:
        own = numbers.stages[name]
        return Stage(
            name, losses, own.steps, trains, optimiser=MuonAndAdamW(own.learning_rate),
            rate=Cosine(own.warmup), batch_size=own.batch_size, clip_norm=own.clip_norm, ema=own.ema,
            **how,
        )  # fmt: skip

    return [
        stage("trunk", [features("trunk", 1.0)], TRUNK, forward=trunk_alone),
        stage("upper", [*above, *picture], UPPER, forward=upper_alone),
        stage(
            "joined", [features("trunk", weight), *above, *picture], (*TRUNK, *UPPER),
            forward=single_frames,
        ),
        stage("in-time", picture, ("time",), data=clips),
    ]  # fmt: skip


def train(asked: FromFiles) -> Distilled:
    """Cut clips, compute what the teacher has to say of them, and distil.

    The run folder keeps the student after each stage as well: what the convolutions across time are
    worth is the difference between the last two.
    """
    require_resumed(asked.run, resume=asked.resume)
    numbers = numbers_of(asked.numbers)
    if asked.steps is not None:
        numbers = numbers.scaled_to(asked.steps)
    numbers = numbers.shared_by(int(os.environ.get("WORLD_SIZE", 1)))
    validation = _validation(asked, numbers.data)
    pictures, clips = prepare(asked, numbers.data)
    distilled = distill(
        new_student(asked.seed), recorded, pictures, stages_of(numbers, clips), run=asked.run,
        validation=validation, seed=asked.seed, resume=asked.resume, workers=asked.workers,
        hardware=asked.hardware, progress=asked.progress,
    )  # fmt: skip
    weights = distilled.folder / STUDENT
    return Distilled(model_of_recipe(find_recipe(NAME), weights, Size()), distilled.folder)


def prepare(asked: FromFiles, numbers: DataNumbers) -> tuple[Clips, Clips]:
    """Single pictures with the teacher's features, and clips; made once, then mapped from a file.

    Raises UsageError if the file in the run folder was made of other videos or with other numbers.
    """
    cache = asked.run / CACHE
    made_from = f"{asked.data.name}, {numbers}, seed {asked.seed}"
    if not cache.exists():
        encoder, decoder = _teacher(asked.teacher)
        still, moving = (
            ClipSampling(count, frames, numbers.size_px, appearance=Appearance())
            for count, frames in ((numbers.pictures, 1), (numbers.clips, numbers.frames))
        )
        asked.progress("cutting clips and computing the teacher's latents and features")
        pictures = encode(cut_from_folder(asked.data, still, 2 * asked.seed), encoder)
        pictures = replace(pictures, features=teacher_features(pictures, decoder))
        clips = encode(cut_from_folder(asked.data, moving, 2 * asked.seed + 1), encoder)
        cache.parent.mkdir(parents=True, exist_ok=True)
        # Each process of several makes it; the last one's stays, and it is the same.
        partial = cache.with_suffix(f".{os.getpid()}.partial")
        torch.save(
            {"made_from": made_from, "pictures": vars(pictures), "clips": vars(clips)}, partial
        )
        partial.replace(cache)
    saved = torch.load(cache, weights_only=True, mmap=True)
    if saved["made_from"] != made_from:
        raise UsageError(
            f"{cache} was made from {saved['made_from']}, and {made_from} was asked for; "
            "give another run folder."
        )
    return Clips(**saved["pictures"]), Clips(**saved["clips"])


def _validation(asked: FromFiles, numbers: DataNumbers) -> Validation | None:
    """On 16 clips as filmed."""
    if asked.validation is None:
        if asked.lpips is not None:
            raise UsageError("LPIPS is measured on validation videos; give them (--validation).")
        return None
    from edgekit.distillation.lpips import load_lpips
    from edgekit.distillation.quality import paper_metrics, standard_metrics

    lpips = None if asked.lpips is None else load_lpips(asked.lpips)
    metrics = standard_metrics(lpips) | paper_metrics(lpips)
    encoder, _ = _teacher(asked.teacher)
    sampling = ClipSampling(16, numbers.frames, numbers.size_px)
    clips = encode(cut_from_folder(asked.validation, sampling, asked.seed), encoder)
    return Validation(clips, metrics, found_and_expected, every=1000, batch_size=4)


def found_and_expected(batch: Batch, student: Outputs) -> tuple[Tensor, Tensor]:
    return student.output, pixels_of(batch)


@torch.inference_mode()
def encode(pixels: Tensor, encoder: nn.Module) -> Clips:
    """uint8 K T 3 H W with the teacher's latents."""
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    latents = [encoder(_channels_last(clip.float() / 255)).half() for clip in pixels]
    return Clips(pixels, torch.stack(latents).contiguous(), {})


@torch.inference_mode()
def teacher_features(pictures: Clips, teacher: nn.Sequential) -> dict[str, Tensor]:
    """What the teacher's decoder holds of each clip's first frame at 1/8, 1/4 and 1/2."""
    teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept: dict[str, list[Tensor]] = {"trunk": [], "quarter": [], "half": []}
    for latents in pictures.latents[:, 0].float().split(16):
        trunk = teacher[:LATENT](_channels_last(latents))
        quarter = teacher[LATENT:QUARTER](trunk)
        half = teacher[QUARTER:HALF](quarter)
        for name, values in (("trunk", trunk), ("quarter", quarter), ("half", half)):
            kept[name].append(values.half().contiguous(memory_format=torch.contiguous_format))
    return {name: torch.cat(values) for name, values in kept.items()}


def _teacher(folder: Path) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder. Raises UsageError where a file is missing."""
    files = [folder / "taef2_encoder.pth", folder / "taef2_decoder.pth"]
    for file in files:
        if not file.is_file():
            raise UsageError(
                f"There is no file {file}; --teacher is the folder of the TAEF2 files "
                "(taef2_encoder.pth and taef2_decoder.pth of madebyollin/taesd)."
            )
    return taef2.load(taef2.encoder(), files[0]), taef2.load(taef2.decoder(), files[1])
