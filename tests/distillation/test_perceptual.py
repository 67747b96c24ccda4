"""Distances in the features of networks that are at hand, and latents that are kept on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.distillation import taef2
from edgekit.distillation.losses import Term
from edgekit.distillation.lpips import Lpips
from edgekit.distillation.perceptual import FeatureDistance, Perceptual
from edgekit.distillation.taps import Outputs
from edgekit.errors import UsageError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())


def test_the_distance_is_that_of_a_slow_reference() -> None:
    features = network()
    one, other = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12)
    found = FeatureDistance(features, ["1", "3"], lambda x: 2 * x - 1)(one, other)
    total = 0.0
    for end in (2, 4):
        maps = [features[:end](2 * x - 1) for x in (one, other)]
        unit = [m / m.square().sum(1, keepdim=True).clamp(1e-8).sqrt() for m in maps]
        total += float((unit[0] - unit[1]).square().sum(1).mean()) / 2
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_equal_pictures_are_at_no_distance_and_only_what_was_made_has_gradients() -> None:
    distance = FeatureDistance(network(), ["3"])
    made, real = (torch.rand(1, 3, 12, 12, requires_grad=True) for _ in range(2))
    assert distance(made, made.detach()).item() == 0
    distance(made, real).backward()
    assert made.grad is not None
    assert real.grad is None
    assert all(parameter.grad is None for parameter in distance.parameters())


def test_a_blur_is_further_away_than_a_brightening_of_equal_squared_error() -> None:
    """Even in a network of random weights; a distance of pixels does not tell them apart."""
    torch.manual_seed(1)
    sharp = nn.functional.interpolate((torch.rand(1, 3, 16, 16) > 0.5).float(), scale_factor=4)
    blurred = nn.functional.avg_pool2d(sharp, 5, 1, 2)
    error = (blurred - sharp).square().mean().sqrt()
    brighter = sharp + error
    distance = FeatureDistance(taef2.encoder(), ["1", "5", "9"])
    assert float(distance(blurred, sharp)) > 1.5 * float(distance(brighter, sharp))


@pytest.mark.parametrize("by_frame", [True, False])
def test_a_clip_is_compared_frame_by_frame_or_whole(by_frame: bool) -> None:
    seen: list[torch.Size] = []

    class Distance(nn.Module):
        def forward(self, made: Tensor, real: Tensor) -> Tensor:
            seen.append(made.shape)
            return (made - real).abs().mean()

    term: Term = Perceptual(Distance(), lambda batch, made: (made.output, batch), by_frame=by_frame)
    clip = torch.zeros(2, 3, 5, 4, 4)
    assert float(term(clip + 1, Outputs(clip), Outputs())) == 1
    assert seen == [(10, 3, 4, 4) if by_frame else (2, 3, 5, 4, 4)]
    with pytest.raises(UsageError, match="At the output"):
        term(clip, Outputs(clip[:, :, :4]), Outputs())


def test_lpips_is_taken_by_frame_and_in_its_own_range() -> None:
    torch.manual_seed(0)
    lpips = Lpips("alex")
    made, real = (torch.rand(1, 3, 2, 64, 64) * 2 - 1 for _ in range(2))
    term = Perceptual(lpips, lambda batch, student: (student.output, batch), by_frame=False)
    by_hand = torch.stack([lpips(made[:, :, t], real[:, :, t]).mean() for t in (0, 1)]).mean()
    torch.testing.assert_close(term(real, Outputs(made), Outputs()), by_hand)


def test_points_that_are_not_there_are_named() -> None:
    with pytest.raises(UsageError, match="has no module '7'"):
        FeatureDistance(network(), ["7"])
    with pytest.raises(UsageError, match="at least one point"):
        FeatureDistance(network(), [])


class Clips:
    """Three clips of noise."""

    frames = 9

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_kept_latents_are_the_teachers_and_drawn_from_its_posterior(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is in the extra 'teachers'")
    from tiny_teachers import ltx

    from edgekit.distillation.latents import LatentClips, as_video, encode_clips
    from edgekit.distillation.teachers import VideoTeacher

    teacher = VideoTeacher(ltx())
    cache = encode_clips(Clips(), teacher, tmp_path)
    assert len(list(cache.glob("*.safetensors"))) == 3
    clip = Clips()[1]
    with torch.no_grad():
        posterior = teacher.encode(as_video(clip[None]))
    mean = LatentClips(Clips(), cache, sampled=False)[1]
    assert torch.equal(mean["pixels"], clip)
    assert torch.equal(mean["latent"], posterior.mean[0])
    drawn = LatentClips(Clips(), cache)
    noise = torch.stack([drawn[1]["latent"] for _ in range(400)]) - posterior.mean[0]
    torch.testing.assert_close(noise.std(0), posterior.deviation[0], rtol=0.2, atol=0)

    other = VideoTeacher(ltx(decoder_causal=True))
    torch.nn.init.zeros_(other.network.encoder.conv_in.conv.bias)
    assert encode_clips(Clips(), other, tmp_path) != cache

    damaged = min(cache.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(UsageError, match=r"cannot be read from .*safetensors.*delete that file"):
        [drawn[index] for index in range(3)]


def test_the_range_of_a_video_is_that_of_the_teachers() -> None:
    from edgekit.distillation.latents import as_video

    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1, 1).expand(1, 2, 3, 4, 5)
    video = as_video(pixels)
    assert video.shape == (1, 3, 2, 4, 5)
    assert video[0, 0, :, 0, 0].tolist() == [-1, 1]
