"""Distil a Turbo-VAED decoder from a video autoencoder, as published (arXiv 2508.09136, section 3).

    edgekit distill turbo-vaed-ltx --data clips/ --teacher ltx-video/vae/

The teacher's encoder is frozen and gives the latents. The student's pictures are compared with the clip
itself, by L1 and by a perceptual distance, and its features with those of the teacher's decoder. A second
stage adds a critic. Departures from the published code, which the card of a result should name:

- Clips are drawn in a few fixed variants rather than anew each time, so that latents are computed once.
- Without LPIPS's weights, the perceptual distance is taken in the features of the teacher's own encoder.
- A batch serves student and critic both; there, every other micro-batch is the critic's.
- The posterior's KL term is left out: the encoder is frozen, so it has no gradient.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.contract import Size
from edgekit.distillation.adversary import Adversary
from edgekit.distillation.alignment import heads_between
from edgekit.distillation.clips_on_demand import AS_FILMED, Augmentation, VideoClips
from edgekit.distillation.damage import listed
from edgekit.distillation.fixed import Fixed
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.inheritance import inherit
from edgekit.distillation.latents import LatentClips, as_video, encode_clips
from edgekit.distillation.loop import Distilled, distill
from edgekit.distillation.losses import Loss, Match
from edgekit.distillation.lpips import load_lpips
from edgekit.distillation.optimisers import AdamW
from edgekit.distillation.patch_critic import PatchCritic
from edgekit.distillation.perceptual import FeatureDistance, Perceptual
from edgekit.distillation.run_folder import STUDENT, require_resumed
from edgekit.distillation.stage import Stage, Validation
from edgekit.distillation.taps import Batch, Outputs, Tapped, opened
from edgekit.distillation.teachers import VideoTeacher, load_teacher, on_latent
from edgekit.distillation.turbo_vaed_numbers import Numbers, StageNumbers, numbers_of
from edgekit.errors import UsageError
from edgekit.model import model_of_recipe
from edgekit.recipe import Recipe, find_recipe
from edgekit.zoo.families import build_network
from edgekit.zoo.layers import fold_frames

LAST_LAYER = "conv_out.conv.weight"
BLOCKS = {"mid": "mid_block"} | {f"up{index}": f"up_blocks.{index}" for index in range(4)}
"""The student's modules behind which the points lie."""


def made_and_real(batch: Batch, student: Outputs) -> tuple[Tensor, Tensor]:
    """N 3 T H W in [-1, 1]; the student's may go beyond."""
    return student.output, as_video(batch["pixels"])


def pixel_error(batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
    return F.l1_loss(*made_and_real(batch, student))


def train(asked: FromFiles) -> Distilled:
    """Scan the videos, encode their clips, and distil. Raises UsageError for what cannot be used."""
    require_resumed(asked.run, resume=asked.resume)
    recipe = find_recipe(asked.model)
    numbers = numbers_of(recipe.name, asked.numbers)
    if asked.steps is not None:
        numbers = numbers.scaled_to(asked.steps)
    teacher = load_teacher(asked.teacher)
    teacher.require_frames(numbers.model.frames)
    student = new_student(recipe, teacher, numbers, asked)
    stages = stages_of(numbers, perceptual_distance(teacher, asked.perceptual), asked.seed)
    # First what takes minutes: encoding the clips to train on takes hours.
    validation = _validation(asked, teacher, numbers)
    data = latents_of(asked.data, teacher, numbers, asked)
    distilled = distill(
        student, teacher.tapped(numbers.model.points), data, stages, run=asked.run,
        validation=validation, seed=asked.seed, resume=asked.resume,
        workers=asked.workers, hardware=asked.hardware, progress=asked.progress,
    )  # fmt: skip
    weights = distilled.folder / STUDENT
    return Distilled(model_of_recipe(recipe, weights, Size()), distilled.folder)


def new_student(
    recipe: Recipe, teacher: VideoTeacher, numbers: Numbers, asked: FromFiles
) -> Tapped:
    """With heads for the teacher's shapes, which both show on the smallest of latents."""
    torch.manual_seed(asked.seed)
    student = build_network(recipe)
    if numbers.initialise_from_teacher:
        report = inherit(student, teacher.weights_for_student())
        asked.progress(report.sentence())
    channels = int(recipe.architecture["latent_channels"])
    latent = {"latent": torch.zeros(1, channels, 3, 2, 2)}
    taught = teacher.tapped(numbers.model.points)
    own = Tapped(student, {point: BLOCKS[point] for point in taught.taps}, forward=on_latent)
    made = [_tried(network, latent, recipe.name) for network in (own, taught)]
    sizes = [tuple(one.output.shape[2:]) for one in made]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"Of the same latent {recipe.name} makes a video of {sizes[0]} and the teacher one of {sizes[1]} "
            "(frames, height, width): it is not the teacher of this model."
        )
    if numbers.data.size_px % (covered := sizes[0][-1] // latent["latent"].shape[-1]):
        raise UsageError(
            f"size_px is {numbers.data.size_px}; a latent covers {covered} pixels, so take a multiple."
        )
    heads = heads_between(numbers.model.heads, *(one.taps for one in made))
    return Tapped(student, own.taps, heads, on_latent)


@torch.no_grad()
def _tried(network: Tapped, batch: Batch, model: str) -> Outputs:
    with opened(network) as tap:
        try:
            return Outputs(network.forward(network.module, batch), tap.take())
        except RuntimeError as error:
            channels = batch["latent"].shape[1]
            raise UsageError(
                f"{model} takes latents of {channels} channels, and the teacher's have another number."
            ) from error


def latents_of(
    videos: Path, teacher: VideoTeacher, numbers: Numbers, asked: FromFiles
) -> LatentClips:
    choice = Augmentation(numbers.data.flip, True, numbers.data.speeds)
    asked.progress("scanning videos for cuts")
    clips = VideoClips(
        videos, numbers.model.frames, numbers.data.size_px, choice,
        on_damage=asked.on_damage, index=asked.run / "videos.json",
    )  # fmt: skip
    if clips.skipped:
        asked.progress(f"left out {len(clips.skipped)} files: {listed(clips.skipped)}")
    fixed = Fixed(clips, asked.seed, numbers.data.variants)
    return _encoded(fixed, teacher, asked, sampled=True)


def _encoded(clips: Any, teacher: VideoTeacher, asked: FromFiles, *, sampled: bool) -> LatentClips:
    is_on_gpu = asked.hardware.accelerator != "cpu" and torch.cuda.is_available()
    # Of several processes each has a GPU of its own.
    teacher.network.to(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if is_on_gpu else "cpu")
    cache = encode_clips(
        clips, teacher, asked.run / "latents", workers=asked.workers, progress=asked.progress
    )
    return LatentClips(clips, cache, sampled=sampled)


def stages_of(numbers: Numbers, perceptual: Perceptual, seed: int) -> list[Stage]:
    weights, model = numbers.weights, numbers.model
    losses = [
        Loss("pixel", pixel_error, weights.pixel),
        Loss("perceptual", perceptual, weights.perceptual),
        *(Loss(f"{point}_features", Match(point), weights.features) for point in model.points),
    ]
    processes = int(os.environ.get("WORLD_SIZE", 1))
    return [
        Stage(
            name,
            losses,
            own.steps,
            optimiser=AdamW(model.learning_rate),
            batch_size=own.batch_size,
            accumulate=own.accumulate(processes),
            ema=own.ema,
            adversary=_adversary(own, weights.adversarial, seed) if name == "adversarial" else None,
        )
        for name, own in numbers.stages.items()
    ]


def _adversary(stage: StageNumbers, weight: float, seed: int) -> Adversary:
    torch.manual_seed(seed)  # a resumed run begins the stage with the same critic
    rate = AdamW(stage.critic_learning_rate)
    critic = PatchCritic(stage.critic_widths)
    return Adversary(critic, made_and_real, LAST_LAYER, weight, optimiser=rate)


def perceptual_distance(teacher: VideoTeacher, vgg: Path | None) -> Perceptual:
    """LPIPS by frame with weights of VGG-16; without, the distance in the teacher's encoder, of whole clips."""
    if vgg is not None:
        return Perceptual(load_lpips(vgg, "vgg"), made_and_real, by_frame=True)
    encoder = teacher.watched_encoder()
    points = [f"points.{point}" for point in encoder.points]
    return Perceptual(FeatureDistance(encoder, points), made_and_real, by_frame=False)


def _validation(asked: FromFiles, teacher: VideoTeacher, numbers: Numbers) -> Validation | None:
    """On clips as filmed, with the mean of the posterior."""
    if asked.validation is None:
        if asked.lpips is not None:
            raise UsageError("LPIPS is measured on validation videos; give them (--validation).")
        return None
    from edgekit.distillation.quality import paper_metrics, standard_metrics

    lpips = None if asked.lpips is None else load_lpips(asked.lpips)
    clips = VideoClips(
        asked.validation, numbers.model.frames, numbers.data.size_px, AS_FILMED,
        on_damage=asked.on_damage, most=numbers.data.validation_clips,
    )  # fmt: skip
    data = _encoded(clips, teacher, asked, sampled=False)
    metrics = standard_metrics(lpips) | paper_metrics(lpips)
    return Validation(data, metrics, found_and_expected, every=1000, batch_size=1)


def found_and_expected(batch: Batch, student: Outputs) -> tuple[Tensor, Tensor]:
    """Frames in [0, 1]."""
    made, real = (fold_frames((video + 1) / 2) for video in made_and_real(batch, student))
    return made, real
