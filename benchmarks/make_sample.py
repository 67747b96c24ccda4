"""Make models/turbo-vaed-mini.sample.npz: frames, latents and teacher frames of Big Buck Bunny.

python benchmarks/make_sample.py --teacher TAEF2_FOLDER --video bbb.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
import torch

from edgekit.distillation import taef2

FIRST_FRAME, EVERY, FRAMES = 3000, 2, 36  # three seconds at 12 frames per second
WIDTH, HEIGHT = 256, 144


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("models/turbo-vaed-mini.sample.npz"))
    arguments = parser.parse_args()
    encoder = taef2.load(taef2.encoder(), arguments.teacher / "taef2_encoder.pth")
    decoder = taef2.load(taef2.decoder(), arguments.teacher / "taef2_decoder.pth")
    frames = read(arguments.video)
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    latents = torch.cat([encoder(picture[None]) for picture in pictures]).half()
    decoded = torch.cat([decoder(latent[None].float()) for latent in latents])
    teacher = (decoded.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    latent = latents.transpose(0, 1)[None].numpy()
    np.savez_compressed(arguments.output, latent=latent, frames=frames, teacher=teacher)
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


def read(video: Path) -> np.ndarray:
    frames = []
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= FIRST_FRAME and (index - FIRST_FRAME) % EVERY == 0:
                small = frame.reformat(
                    width=WIDTH, height=HEIGHT, format="rgb24", interpolation="AREA"
                )
                frames.append(small.to_ndarray())
            if len(frames) == FRAMES:
                return np.stack(frames)
    raise SystemExit(f"{video} is too short")


if __name__ == "__main__":
    main()
