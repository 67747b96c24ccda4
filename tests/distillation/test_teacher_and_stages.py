from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fetch_assets import shared_or_skip

from edgekit.distillation import taef2
from edgekit.distillation.turbo_vaed_mini import Apprentice, Clips, Lesson

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


@pytest.fixture
def clips() -> Clips:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, 5, 3, 160, 160), generator=generator, dtype=torch.uint8)
    return Clips(pixels, torch.randn(3, 5, 32, 20, 20, generator=generator).half())


def test_drawn_latents_and_frames_belong_together(clips: Clips) -> None:
    for seed in range(5):
        latents, frames = clips.draw(2, 3, torch.Generator().manual_seed(seed))
        assert latents.shape == (2, 32, 3, 20, 20)
        assert frames.shape == (6, 3, 160, 160)
        found = [
            (clip, start)
            for clip in range(3)
            for start in range(3)
            if torch.equal(clips.latents[clip, start : start + 3].float(), latents[0].movedim(1, 0))
        ]
        ((clip, start),) = found
        expected = clips.pixels[clip, start : start + 3].float() / 255
        torch.testing.assert_close(frames[:3], expected)


def test_the_same_generator_draws_the_same_clips(clips: Clips) -> None:
    first, again = (clips.draw(2, 2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_convolutions_across_time_start_as_identity() -> None:
    torch.manual_seed(0)
    student = Apprentice().student.eval().requires_grad_(False)
    features = torch.randn(6, 64, 3, 3)
    torch.testing.assert_close(student.across_time(features, batch=2), features)


@pytest.mark.parametrize("stage", ["apart", "joined", "in_time"])
def test_every_stage_has_finite_terms_and_reaches_the_whole_decoder(
    clips: Clips, stage: str
) -> None:
    torch.manual_seed(0)
    model = Apprentice()
    lesson = Lesson(clips, taef2.decoder().eval().requires_grad_(False))
    losses = getattr(lesson, stage)(model, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(term) for term in losses.values())
    sum(losses.values()).backward()
    for part in ("conv_in", "trunk", "up4", "up2", "up1", "conv_out"):
        gradients = [value.grad for value in model.student.get_submodule(part).parameters()]
        assert all(gradient is not None for gradient in gradients), part
