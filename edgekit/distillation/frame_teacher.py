"""TAEF2, an autoencoder of pictures, as a teacher of video: frame by frame."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from edgekit.distillation import taef2
from edgekit.errors import UsageError
from edgekit.zoo.layers import fold_frames, unfold_frames

ENDS = {"mid": 6, "up0": 11, "up1": 16}
"""Where the decoder's layers at latent, a quarter and half resolution end."""


class FrameByFrame(nn.Module):
    """Videos N 3 T H W in [-1, 1], latents N 32 T H/8 W/8."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.seen = nn.ModuleDict({point: nn.Identity() for point in ENDS})

    def encode(self, video: Tensor) -> Tensor:
        return unfold_frames(self.encoder(fold_frames((video + 1) / 2)), len(video))

    def decode(self, latent: Tensor) -> Tensor:
        x, begin = fold_frames(latent), 0
        for point, end in ENDS.items():
            x, begin = self.decoder[begin:end](x), end
            self.seen[point](unfold_frames(x, len(latent)))
        return unfold_frames(self.decoder[begin:](x) * 2 - 1, len(latent))


def load_frame_teacher(folder: Path) -> FrameByFrame:
    """From taef2_encoder.pth and taef2_decoder.pth of madebyollin/taesd. Raises UsageError."""
    files = [folder / f"taef2_{part}.pth" for part in ("encoder", "decoder")]
    for file in files:
        if not file.is_file():
            raise UsageError(
                f"There is no file {file}; TAEF2 is two of them, of madebyollin/taesd."
            )
    return FrameByFrame(
        taef2.load(taef2.encoder(), files[0]), taef2.load(taef2.decoder(), files[1])
    )
