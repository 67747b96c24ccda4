"""What approximate tiling costs a video decoder, beside plans, which are exact.

    python benchmarks/plan_video.py

turbo-vaed-mini (trained weights) on the latents of Big Buck Bunny that ship with it, in eager torch:
  * independent tiles of 128 pixels with a quarter of overlap, blended linearly, the usual practice
    (diffusers' tiled decoding): each tile pads and normalises as if it were the picture;
  * chunks of 8 frames, each decoded with some frames of its neighbours before and behind.
Errors are against the decode of the whole clip.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import edgekit
from edgekit.chunking import overlap_errors

SAMPLE = Path(__file__).parent.parent / "models" / "turbo-vaed-mini.sample.npz"
STRIDE = 8
TILE, STEP = 16, 12  # latent cells: 128 pixels, a quarter of overlap


def ramp(length: int, first: bool, last: bool, overlap: int) -> Tensor:
    """Weights of one tile along one side: rising over its overlap, falling over the next one's."""
    weight = torch.ones(length)
    rise = (torch.arange(overlap) + 1) / (overlap + 1)
    if not first:
        weight[:overlap] = rise
    if not last:
        weight[-overlap:] = torch.minimum(weight[-overlap:], rise.flip(0))
    return weight


def starts(size: int) -> list[int]:
    return [*range(0, max(1, size - TILE), STEP), max(0, size - TILE)]


def blended(decode: torch.nn.Module, latent: Tensor) -> Tensor:
    _, _, frames, height, width = latent.shape
    total = torch.zeros(1, 3, frames, height * STRIDE, width * STRIDE)
    weights = torch.zeros_like(total[:, :1])
    overlap = (TILE - STEP) * STRIDE
    rows, columns = starts(height), starts(width)
    for y in rows:
        for x in columns:
            tile = latent[..., y : y + TILE, x : x + TILE]
            video = decode(tile)
            down = ramp(video.shape[-2], y == rows[0], y == rows[-1], overlap)
            across = ramp(video.shape[-1], x == columns[0], x == columns[-1], overlap)
            weight = down[:, None] * across
            area = (
                ...,
                slice(y * STRIDE, y * STRIDE + video.shape[-2]),
                slice(x * STRIDE, x * STRIDE + video.shape[-1]),
            )
            total[area] += video * weight
            weights[area] += weight
    return total / weights


def report(what: str, found: Tensor, expected: Tensor) -> None:
    difference = (found - expected).abs()
    mse = float(difference.square().mean())
    psnr = "identical" if mse == 0 else f"{-10 * math.log10(mse):.1f} dB"
    print(f"{what:58} {psnr:>10}  max {float(difference.max()):.2g}", flush=True)


def main() -> None:
    latents = np.load(SAMPLE)["latent"]
    latent = torch.from_numpy(latents.astype(np.float32))
    frames, height, width = latent.shape[2:]
    model = edgekit.load(
        "turbo-vaed-mini", height=height * STRIDE, width=width * STRIDE, frames=frames
    )
    with torch.inference_mode():
        whole = model.module(latent)
        report("independent tiles of 128 pixels, blended", blended(model.module, latent), whole)
    for error in overlap_errors(model, 8, latent):
        what = f"chunks of 8 frames with {error.overlap} of overlap on each side"
        print(f"{what:58} {error.psnr_db:>7.1f} dB  max {error.max_abs:.2g}", flush=True)


if __name__ == "__main__":
    main()
