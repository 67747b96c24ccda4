from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fetch_assets import shared_or_skip

from edgekit.distillation import taef2

GOLDEN = Path(__file__).parents[1] / "golden" / "taef2.npz"


def test_the_teacher_equals_the_official_encoder_and_decoder() -> None:
    folder = shared_or_skip("assets/taef2")
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    encoder = taef2.load(taef2.encoder(), folder / "taef2_encoder.pth")
    decoder = taef2.load(taef2.decoder(), folder / "taef2_decoder.pth")
    with torch.no_grad():
        latent, picture = encoder(golden["image"]), decoder(golden["latent"])
    torch.testing.assert_close(latent, golden["latent"], rtol=0, atol=1e-4)
    torch.testing.assert_close(picture, golden["reconstruction"], rtol=0, atol=1e-4)
