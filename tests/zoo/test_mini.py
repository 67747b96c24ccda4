from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.zoo.turbo_vaed_mini import MiniConfig, TurboVAEDMini

SMALL = MiniConfig(latent_channels=8, widths=(16, 16, 8), blocks=(1, 1, 1))


@pytest.fixture
def network() -> TurboVAEDMini:
    torch.manual_seed(0)
    return TurboVAEDMini(SMALL).eval().requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_every_latent_gives_one_frame(network: TurboVAEDMini, frames: int) -> None:
    assert network(torch.randn(1, 8, frames, 3, 2)).shape == (1, 3, frames, 24, 16)


def test_a_batch_of_two_equals_two_batches_of_one(network: TurboVAEDMini) -> None:
    latents = torch.randn(2, 8, 3, 3, 2)
    alone = torch.cat([network(latents[:1]), network(latents[1:])])
    torch.testing.assert_close(network(latents), alone, rtol=1e-5, atol=1e-5)


def test_frames_see_their_neighbours_within_the_reach_of_the_time_blocks(
    network: TurboVAEDMini,
) -> None:
    latents = torch.randn(1, 8, 5, 3, 2)
    changed = latents.clone()
    changed[:, :, 0] += 1
    difference = (network(changed) - network(latents)).abs().amax(dim=(0, 1, 3, 4))
    assert (difference > 0).all()


def test_without_time_blocks_every_frame_stands_alone() -> None:
    torch.manual_seed(0)
    config = MiniConfig(8, (16, 16, 8), (1, 1, 1), temporal_blocks=0)
    network = TurboVAEDMini(config).eval().requires_grad_(False)
    latents = torch.randn(1, 8, 3, 3, 2)
    frames = [network(latents[:, :, index : index + 1]) for index in range(3)]
    torch.testing.assert_close(network(latents), torch.cat(frames, dim=2), rtol=1e-5, atol=1e-5)


def test_a_picture_is_the_sum_of_what_each_stage_paints(network: TurboVAEDMini) -> None:
    features = torch.randn(2, 16, 3, 2)
    picture, quarter, half = network.paint(features)
    expected = sum(
        F.pixel_shuffle(_in_one_shuffle(painted), factor)
        for painted, factor in (
            (network.paint8(features), 8),
            (network.paint4(quarter), 4),
            (network.paint2(half), 2),
        )
    )
    torch.testing.assert_close(picture, expected)


def _in_one_shuffle(channels: Tensor) -> Tensor:
    """Channels 3·4^k for k shuffles by 2, reordered for one shuffle by 2^k."""
    n, c, h, w = channels.shape
    levels = {12: 1, 48: 2, 192: 3}[c]
    digits = channels.view(n, 3, *(2, 2) * levels, h, w)
    rows = [2 + 2 * level for level in reversed(range(levels))]  # the first shuffle is the coarsest
    columns = [row + 1 for row in rows]
    return digits.permute(0, 1, *rows, *columns, -2, -1).reshape(n, c, h, w)
