"""diffusers' own autoencoders, narrow and with random weights: what is tested is their code, not their pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def ltx(**changes: Any) -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    sizes: dict[str, Any] = {
        "block_out_channels": (4, 8, 16, 16), "decoder_block_out_channels": (4, 8, 16, 16),
        "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1),
        "latent_channels": 8,
    }  # fmt: skip
    return _seeded(lambda: AutoencoderKLLTXVideo(**{**sizes, **changes}))


def hunyuan() -> nn.Module:
    from diffusers import AutoencoderKLHunyuanVideo

    return _seeded(
        lambda: AutoencoderKLHunyuanVideo(
            block_out_channels=(4, 8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
        )
    )  # fmt: skip


def cogvideox() -> nn.Module:
    from diffusers import AutoencoderKLCogVideoX

    return _seeded(
        lambda: AutoencoderKLCogVideoX(
            block_out_channels=(4, 8, 8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
        )
    )  # fmt: skip


def wan21() -> nn.Module:
    from diffusers import AutoencoderKLWan

    return _seeded(
        lambda: AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1)
    )


def wan22() -> nn.Module:
    from diffusers import AutoencoderKLWan

    return _seeded(
        lambda: AutoencoderKLWan(
            base_dim=4, decoder_base_dim=8, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
            is_residual=True, in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16,
            temperal_downsample=[False, True, True],
        )
    )  # fmt: skip


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


STUDENT = """
name = "tiny"
family = "turbo-vaed"
summary = "A narrow student of an LTX latent"
source = "tests"
parameters = 0
[architecture]
latent_channels = 8
widths = [16, 8, 8, 16]
layers = [1, 1, 1, 1, 1]
time_strides = [2, 2, 2]
patch_size = 4
drop_lead_frames = true
[weights]
[latent]
channels = 8
stride = 32
frame_stride = 8
lead_frame = true
low = -1.0
high = 1.0
[scaling]
divisor = 1.0
[size]
height = 64
width = 64
frames = 9
"""
NUMBERS = """
initialise_from_teacher = true
[data]
size_px = 64
variants = 2
flip = 0.5
speeds = [1, 2]
validation_clips = 2
[weights]
pixel = 1.0
perceptual = 1.0
features = 1.0
adversarial = 0.05
[stages.reconstruction]
steps = 3
batch_size = 2
at_once = 1
ema = 0.5
[stages.adversarial]
steps = 4
batch_size = 2
at_once = 1
ema = 0.5
critic_learning_rate = 1e-4
critic_widths = [4, 8, 8, 8]
[models.tiny]
frames = 9
learning_rate = 2e-4
heads = ["up1"]
direct = ["mid"]
"""


def write_video(
    path: Path, pictures: np.ndarray, codec: str = "ffv1", pixels: str = "bgr0"
) -> Path:
    """uint8 T H W 3, at 24 frames a second; ffv1 codes without loss."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def brightening(frames: int, height: int = 64, width: int = 80, seed: int = 0) -> np.ndarray:
    """Still noise that grows brighter by one a frame: a frame's brightness tells its number."""
    noise = np.random.default_rng(seed).integers(0, 150, (1, height, width, 3))
    return (noise + np.arange(frames).reshape(-1, 1, 1, 1)).astype(np.uint8)
