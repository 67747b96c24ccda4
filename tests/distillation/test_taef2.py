from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import shared_or_skip

from edgekit.distillation import taef2
from edgekit.errors import UsageError

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


def test_a_damaged_file_and_the_other_one_of_the_two_are_named(tmp_path: Path) -> None:
    file = tmp_path / "taef2_encoder.pth"
    torch.save(taef2.decoder().state_dict(), file)
    with pytest.raises(
        UsageError, match=r"taef2_encoder\.pth .*check that it belongs to this model"
    ):
        taef2.load(taef2.encoder(), file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"taef2_encoder\.pth is truncated or corrupt"):
        taef2.load(taef2.encoder(), file)
