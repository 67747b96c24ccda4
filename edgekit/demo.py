"""Decode the shipped sample with an exported file and draw it beside the original and the teacher.

    python -m edgekit.demo turbo-vaed.bundle picture.png

The sample is three seconds of Big Buck Bunny (c) copyright 2008, Blender Foundation,
www.bigbuckbunny.org, CC BY 3.0: frames, their TAEF2 latents, and what TAEF2 makes of those.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edgekit.api import run
from edgekit.arrays import to_pixels
from edgekit.bundle import open_bundle
from edgekit.data_folder import data_folder
from edgekit.errors import EdgekitError, UsageError

SAMPLE = "turbo-vaed-mini.sample.npz"
COLUMNS = 4
CAPTION_PX = 18

Frames = npt.NDArray[np.uint8]


def read_sample() -> tuple[npt.NDArray[np.float32], Frames, Frames]:
    """Latent 1 32 T h w, original frames and teacher frames T H W 3."""
    with np.load(data_folder("models") / SAMPLE) as sample:
        return sample["latent"].astype(np.float32), sample["frames"], sample["teacher"]


def psnr_db(frames: Frames, reference: Frames) -> float:
    error = np.square(frames.astype(np.float64) - reference).mean()
    return float(20 * np.log10(255) - 10 * np.log10(error))


def comparison(rows: list[tuple[str, Frames]]) -> Image.Image:
    """One captioned row per clip, with frames spread evenly over it."""
    count, height, width, _ = rows[0][1].shape
    chosen = np.linspace(0, count - 1, COLUMNS).round().astype(int)
    picture = Image.new("RGB", (COLUMNS * width, len(rows) * (height + CAPTION_PX)), "white")
    draw = ImageDraw.Draw(picture)
    for index, (caption, frames) in enumerate(rows):
        top = index * (height + CAPTION_PX)
        draw.text((4, top + 3), caption, fill="black")
        for column, frame in enumerate(chosen):
            picture.paste(Image.fromarray(frames[frame]), (column * width, top + CAPTION_PX))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    try:
        draw_sample(arguments.bundle, arguments.picture)
    except EdgekitError as error:
        print(f"edgekit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def draw_sample(path: Path, picture: Path) -> None:
    """Raises UsageError if the bundle was not exported at the sample's size."""
    bundle = open_bundle(path)
    latent, frames, teacher = read_sample()
    if bundle.inputs[0].shape != latent.shape:
        count, height, width, _ = frames.shape
        raise UsageError(
            f"{path} does not take the sample; export turbo-vaed with --size {height}x{width} "
            f"--frames {count}."
        )
    started = time.perf_counter()
    (video,) = run(bundle, latent)
    seconds = time.perf_counter() - started
    student = to_pixels(video[0], bundle.outputs[0])
    clips = [
        ("original: Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0", frames),
        (f"teacher: TAEF2, {psnr_db(teacher, frames):.1f} dB", teacher),
        (f"student: {bundle.model_file.name}, {psnr_db(student, frames):.1f} dB", student),
    ]
    picture.parent.mkdir(parents=True, exist_ok=True)
    comparison(clips).save(picture)
    print(
        f"decoded {len(frames)} frames with {bundle.model_file} in {seconds:.1f} s, loading included"
    )
    for caption, _ in clips:
        print(caption)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
