"""Distil `turbo-vaed-mini` from TAEF2: each stage on the teacher's features, then all as one.

    python -m edgekit.distillation.turbo_vaed_mini --teacher taef2/ --video bbb.mp4 --run run/

The teacher's encoder gives the latents and its decoder gives features to match; the pixel target
is the video itself, as in Turbo-VAED (arXiv 2508.09136, section 3). No teacher tensor is copied
into the student: every stage starts from its own initialisation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit.distillation import taef2
from edgekit.distillation.clips import ClipSampling, cut_clips
from edgekit.distillation.loop import LoopOptions, Losses, Stage, train
from edgekit.distillation.losses import pyramid_l1, relative_feature_error
from edgekit.zoo.layers import fold_frames
from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini

LATENT, QUARTER, HALF = 6, 11, 16
"""Where the teacher's decoder layers at latent, a quarter and half resolution end."""
WINDOW, MARGIN = 18, 1  # latent cells; the loss leaves out a margin that zero padding reaches
STRIDE = taef2.LATENT_STRIDE


@dataclass(frozen=True)
class Clips:
    """Pixels, uint8 K T 3 H W, and the teacher's latents of them, float16 K T 32 H/8 W/8."""

    pixels: Tensor
    latents: Tensor

    def draw(self, clips: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random clips of consecutive frames.

        Returns latents N 32 T h w and frames N·T 3 H W in [0, 1].
        """
        chosen = torch.randint(len(self.pixels), (clips,), generator=generator)
        last_start = self.pixels.shape[1] - frames
        start = int(torch.randint(last_start + 1, (1,), generator=generator))
        window = slice(start, start + frames)
        latents = self.latents[chosen, window].transpose(1, 2).float()
        return latents, self.pixels[chosen, window].flatten(0, 1).float() / 255


@torch.inference_mode()
def encode_clips(video: Path, sampling: ClipSampling, encoder: nn.Module, seed: int) -> Clips:
    pixels = cut_clips(video, sampling, seed)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    latents = [
        encoder((clip.float() / 255).contiguous(memory_format=torch.channels_last)).half()
        for clip in pixels
    ]
    return Clips(pixels, torch.stack(latents).contiguous())


class Apprentice(nn.Module):
    """The student, and a projection of its half-resolution features that is not shipped."""

    def __init__(self) -> None:
        super().__init__()
        self.student = TurboVAEDMini(MiniConfig())
        self.project = nn.Conv2d(MiniConfig().widths[2], taef2.WIDTH, 1)
        for block in self.student.time:  # so that frames train as if it were absent
            last = block.get_submodule("conv2.pointwise_conv")
            assert isinstance(last, nn.Conv3d)
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)


class Lesson:
    """Draws batches, asks the teacher, and weighs what the student gets wrong."""

    def __init__(self, clips: Clips, teacher: nn.Sequential) -> None:
        self.clips = clips
        self.to_latent = teacher[:LATENT]
        self.to_quarter = teacher[LATENT:QUARTER]
        self.to_half = teacher[QUARTER:HALF]

    def apart(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """Every stage on the teacher's features of the stage before."""
        assert isinstance(model, Apprentice)
        latents, frames = self.clips.draw(4, 1, generator)
        with torch.no_grad():
            features = self.to_latent(fold_frames(latents))
        trunk = model.student.trunk_features(latents)
        top, left = self._corner(latents, generator)
        seen = _window(features[:2], top, left, 1)
        with torch.no_grad():
            quarter = self.to_quarter(seen)
            half = self.to_half(quarter)
        own_half = model.student.up2(quarter)
        pictures = model.student.conv_out(model.student.up1(own_half))
        target = _window(frames[:2], top, left, STRIDE)
        return {
            "latent_features": relative_feature_error(trunk, features),
            "quarter_features": _inside(relative_feature_error, model.student.up4(seen), quarter),
            "half_features": _inside(relative_feature_error, model.project(own_half), half),
            **picture_losses(pictures, target),
        }

    def joined(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """Every stage on what the student itself computed before; features and pixels."""
        assert isinstance(model, Apprentice)
        latents, frames = self.clips.draw(2, 1, generator)
        with torch.no_grad():
            features = self.to_latent(fold_frames(latents))
        trunk = model.student.trunk_features(latents)
        top, left = self._corner(latents, generator)
        with torch.no_grad():
            quarter = self.to_quarter(_window(features, top, left, 1))
        own_quarter = model.student.up4(_window(trunk, top, left, 1))
        pictures = model.student.conv_out(model.student.up1(model.student.up2(own_quarter)))
        return {
            "latent_features": relative_feature_error(trunk, features),
            "quarter_features": 0.5 * _inside(relative_feature_error, own_quarter, quarter),
            **picture_losses(pictures, _window(frames, top, left, STRIDE)),
        }

    def in_time(self, model: nn.Module, generator: torch.Generator) -> Losses:
        """Short clips through the whole student, convolutions across time included."""
        assert isinstance(model, Apprentice)
        latents, frames = self.clips.draw(1, 5, generator)
        features = model.student.across_time(model.student.trunk_features(latents), 1)
        top, left = self._corner(latents, generator)
        half = model.student.up2(model.student.up4(_window(features, top, left, 1)))
        pictures = model.student.conv_out(model.student.up1(half))
        return picture_losses(pictures, _window(frames, top, left, STRIDE))

    def _corner(self, latents: Tensor, generator: torch.Generator) -> tuple[int, int]:
        free = latents.shape[-1] - WINDOW + 1
        top, left = torch.randint(free, (2,), generator=generator).tolist()
        return top, left


def _window(x: Tensor, top: int, left: int, cells: int) -> Tensor:
    """The window of N C H W that starts at a latent cell, at `cells` samples per latent cell."""
    top, left, size = top * cells, left * cells, WINDOW * cells
    return x[..., top : top + size, left : left + size]


def _inside(loss: object, student: Tensor, teacher: Tensor) -> Tensor:
    assert callable(loss)
    edge = MARGIN * student.shape[-1] // WINDOW
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    result = loss(student[inner], teacher[inner])
    assert isinstance(result, Tensor)
    return result


def picture_losses(pictures: Tensor, target: Tensor) -> Losses:
    def squared(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean()

    return {
        "pyramid_l1": _inside(pyramid_l1, pictures, target),
        "squared": 20 * _inside(squared, pictures, target),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the TAEF2 files")
    parser.add_argument("--video", type=Path, required=True, help="bbb.mp4")
    parser.add_argument(
        "--run", type=Path, required=True, help="run folder; continued if it exists"
    )
    parser.add_argument("--clips", type=int, default=420)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", type=int, default=1300, help="steps with stages apart")
    parser.add_argument("--joined", type=int, default=3600, help="steps with stages joined")
    parser.add_argument("--in-time", type=int, default=200, help="steps on clips")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    model = Apprentice()
    clips = _cached_clips(arguments)
    lesson = Lesson(clips, taef2.load(taef2.decoder(), arguments.teacher / "taef2_decoder.pth"))
    frame_parts = tuple(f"student.{part}" for part in ("conv_in", "trunk", "up4", "up2", "up1", "conv_out"))  # fmt: skip
    stages = [
        Stage("apart", arguments.apart, lesson.apart, (*frame_parts, "project"), 2e-3),
        Stage("joined", arguments.joined, lesson.joined, frame_parts, 1e-3),
        Stage("in-time", arguments.in_time, lesson.in_time, ("student",), 3e-4),
    ]
    average = train(model, stages, arguments.run, LoopOptions(seed=arguments.seed, ema_decay=0.998))
    assert isinstance(average, Apprentice)
    save_file(average.student.state_dict(), str(arguments.run / "turbo-vaed-mini.safetensors"))


def _cached_clips(arguments: argparse.Namespace) -> Clips:
    cache = arguments.run / "clips.pt"
    if cache.exists():
        saved = torch.load(cache, weights_only=True)
        return Clips(saved["pixels"], saved["latents"])
    encoder = taef2.load(taef2.encoder(), arguments.teacher / "taef2_encoder.pth")
    sampling = ClipSampling(arguments.clips, frames=5, size_px=256)
    clips = encode_clips(arguments.video, sampling, encoder, arguments.seed)
    arguments.run.mkdir(parents=True, exist_ok=True)
    torch.save({"pixels": clips.pixels, "latents": clips.latents}, cache)
    return clips


if __name__ == "__main__":
    main()
