"""Distil `turbo-vaed-mini` from TAEF2: features stage by stage, then pixels, then short clips.

    python -m edgekit.distillation.turbo_vaed_mini --teacher taef2/ --video bbb.mp4 --run run/

The teacher's encoder gives the latents and its decoder gives features to match; the pixel target
is the video itself, as in Turbo-VAED (arXiv 2508.09136, section 3). No teacher tensor is copied
into the student.
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

TEACHER_LATENT_FEATURES = 6  # decoder layers 0-5 end at latent resolution
TEACHER_QUARTER_FEATURES = 11  # layers 6-10 end at a quarter of the picture


@dataclass(frozen=True)
class Clips:
    """Pixels, uint8 K T 3 H W, and the teacher's latents of them, float16 K T 32 H/8 W/8."""

    pixels: Tensor
    latents: Tensor

    def draw(self, clips: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random clips of consecutive frames.

        Returns latents N 32 T h w and pixels N 3 T H W in [0, 1].
        """
        chosen = torch.randint(len(self.pixels), (clips,), generator=generator)
        last_start = self.pixels.shape[1] - frames
        start = int(torch.randint(last_start + 1, (1,), generator=generator))
        window = slice(start, start + frames)
        latents = self.latents[chosen, window].transpose(1, 2).float()
        return latents, self.pixels[chosen, window].transpose(1, 2).float() / 255


@torch.inference_mode()
def encode_clips(video: Path, sampling: ClipSampling, encoder: nn.Module, seed: int) -> Clips:
    pixels = cut_clips(video, sampling, seed)
    encoder = encoder.to(memory_format=torch.channels_last)
    latents = [
        encoder((clip.float() / 255).contiguous(memory_format=torch.channels_last)).half()
        for clip in pixels
    ]
    return Clips(pixels, torch.stack(latents).contiguous())


def stages(clips: Clips, teacher: nn.Sequential, steps: dict[str, int]) -> list[Stage]:
    """Latent-resolution features, quarter-resolution features, pixels, pixels of short clips."""
    to_latent_features = teacher[:TEACHER_LATENT_FEATURES]
    to_quarter_features = teacher[TEACHER_LATENT_FEATURES:TEACHER_QUARTER_FEATURES]

    def feature_losses(model: nn.Module, latents: Tensor) -> tuple[Losses, Tensor]:
        assert isinstance(model, TurboVAEDMini)
        with torch.no_grad():
            latent_target = to_latent_features(fold_frames(latents))
            quarter_target = to_quarter_features(latent_target)
        trunk = model.trunk_features(latents)
        quarter = model.up4(model.across_time(trunk, latents.shape[0]))
        losses = {
            "latent_features": relative_feature_error(trunk, latent_target),
            "quarter_features": relative_feature_error(quarter, quarter_target),
        }
        return losses, quarter

    def trunk_loss(model: nn.Module, generator: torch.Generator) -> Losses:
        assert isinstance(model, TurboVAEDMini)
        latents, _ = clips.draw(8, 1, generator)
        with torch.no_grad():
            target = to_latent_features(fold_frames(latents))
        return {"latent_features": relative_feature_error(model.trunk_features(latents), target)}

    def quarter_loss(model: nn.Module, generator: torch.Generator) -> Losses:
        latents, _ = clips.draw(4, 1, generator)
        return feature_losses(model, latents)[0]

    def pixel_loss(model: nn.Module, generator: torch.Generator) -> Losses:
        assert isinstance(model, TurboVAEDMini)
        latents, pixels = clips.draw(2, 1, generator)
        losses, quarter = feature_losses(model, latents)
        losses = {name: 0.1 * term for name, term in losses.items()}
        pictures = model.conv_out(model.up1(model.up2(quarter)))
        return losses | picture_losses(pictures, fold_frames(pixels))

    def clip_loss(model: nn.Module, generator: torch.Generator) -> Losses:
        latents, pixels = clips.draw(1, 3, generator)
        return picture_losses(fold_frames(model(latents)), fold_frames(pixels))

    def picture_losses(pictures: Tensor, target: Tensor) -> Losses:
        squared = (pictures - target).square().mean()
        return {"pyramid_l1": pyramid_l1(pictures, target), "squared": 10 * squared}

    frame_modules = ("conv_in", "trunk", "up4", "up2", "up1", "conv_out")
    return [
        Stage("trunk", steps["trunk"], trunk_loss, ("conv_in", "trunk"), 2e-3),
        Stage("quarter", steps["quarter"], quarter_loss, ("conv_in", "trunk", "up4"), 1e-3),
        Stage("pixels", steps["pixels"], pixel_loss, frame_modules, 1e-3),
        Stage("clips", steps["clips"], clip_loss, (), 3e-4),
    ]


def start_time_blocks_as_identity(model: TurboVAEDMini) -> None:
    """Zero each residual branch across time, so that frame stages train as if it were absent."""
    for block in model.time:
        nn.init.zeros_(block.conv2.pointwise_conv.weight)  # type: ignore[union-attr]
        nn.init.zeros_(block.conv2.pointwise_conv.bias)  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the TAEF2 files")
    parser.add_argument("--video", type=Path, required=True, help="bbb.mp4")
    parser.add_argument(
        "--run", type=Path, required=True, help="run folder; continued if it exists"
    )
    parser.add_argument("--clips", type=int, default=420)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1500, 1500, 8000, 1500],
        help="steps of the stages trunk,quarter,pixels,clips",
    )
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    model = TurboVAEDMini(MiniConfig())
    start_time_blocks_as_identity(model)
    arguments.run.mkdir(parents=True, exist_ok=True)
    cache = arguments.run / "clips.pt"
    if cache.exists():
        saved = torch.load(cache, weights_only=True)
        clips = Clips(saved["pixels"], saved["latents"])
    else:
        encoder = taef2.load(taef2.encoder(), arguments.teacher / "taef2_encoder.pth")
        sampling = ClipSampling(arguments.clips, frames=5, size_px=256)
        clips = encode_clips(arguments.video, sampling, encoder, arguments.seed)
        torch.save({"pixels": clips.pixels, "latents": clips.latents}, cache)
    teacher = taef2.load(taef2.decoder(), arguments.teacher / "taef2_decoder.pth")
    steps = dict(zip(("trunk", "quarter", "pixels", "clips"), arguments.steps, strict=True))
    options = LoopOptions(seed=arguments.seed)
    average = train(model, stages(clips, teacher, steps), arguments.run, options)
    save_file(average.state_dict(), str(arguments.run / "turbo-vaed-mini.safetensors"))


if __name__ == "__main__":
    main()
