from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.contract import Size
from edgekit.errors import UsageError
from edgekit.video_latent import LatentScaling, VideoContract, VideoLatent

LTX = VideoLatent(128, 32, 8, True, -1.0, 1.0)
DC = VideoLatent(128, 32, 4, False, -1.0, 1.0)
MINI = VideoLatent(32, 8, 1, False, 0.0, 1.0)


@pytest.mark.parametrize(
    ("latent", "frames", "steps"),
    [(LTX, 1, 1), (LTX, 17, 3), (DC, 4, 1), (DC, 16, 4), (MINI, 5, 5)],
)
def test_a_size_gives_the_contracts_of_latent_and_video(
    latent: VideoLatent, frames: int, steps: int
) -> None:
    given_latent, video = latent.specs(64, 96, frames)
    stride = latent.stride
    assert given_latent.shape == (1, latent.channels, steps, 64 // stride, 96 // stride)
    assert video.shape == (1, 3, frames, 64, 96)
    assert (video.low, video.high) == (latent.low, latent.high)
    assert given_latent.axes == video.axes == "NCTHW"


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 8), st.booleans(), st.integers(-3, 80), st.integers(1, 16), st.integers(-9, 200)
)
def test_a_size_that_is_refused_is_one_that_no_latent_gives(
    frame_stride: int, lead: bool, frames: int, stride: int, height: int
) -> None:
    latent = VideoLatent(4, stride, frame_stride, lead, 0.0, 1.0)
    possible = {frame_stride * (step - lead) + lead for step in range(1, 90)}
    heights = {stride * cells for cells in range(1, 201)}
    try:
        given_latent, _ = latent.specs(height, stride, frames)
    except UsageError:
        assert frames not in possible or height not in heights
    else:
        assert frames in possible
        assert height in heights
        steps, rows = given_latent.shape[2:4]
        assert frame_stride * (steps - lead) + lead == frames
        assert rows * stride == height
        contract = VideoContract(latent, LatentScaling(), stride, stride, frame_stride)
        assert contract.size_of(given_latent.shape) == Size(height, stride, frames)


def test_a_wrong_side_names_the_nearest_that_fits() -> None:
    with pytest.raises(
        UsageError, match=r"height 100 is no multiple of the latent stride 32; .*: 96"
    ):
        LTX.specs(100, 64, 17)
    with pytest.raises(UsageError, match=r"width 5 .*: 32"):
        LTX.specs(64, 5, 17)


def test_a_wrong_number_of_frames_names_the_form_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"15 frames, only 8·n\+1; the nearest is 17"):
        LTX.specs(64, 64, 15)
    with pytest.raises(UsageError, match="0 frames, only a multiple of 4; the nearest is 4"):
        DC.specs(64, 64, 0)


def test_raw_latents_undo_the_scaling_channel_by_channel() -> None:
    scaling = LatentScaling(0.5, mean=(1.0, -2.0), std=(3.0, 4.0))
    latent = np.random.default_rng(0).standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    expected = np.empty_like(latent)
    for channel, (mean, std) in enumerate([(1.0, 3.0), (-2.0, 4.0)]):
        expected[:, channel] = latent[:, channel] / 0.5 * std + mean
    raw = scaling.to_raw(latent)
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw, expected, rtol=1e-6)


def test_without_statistics_the_recipe_says_where_they_are() -> None:
    with pytest.raises(UsageError, match=r"not in the recipe: .*the VAE file"):
        LatentScaling(missing="in the VAE file").to_raw(np.zeros((1, 2, 1, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((1, 3, 1, 1, 1), "3 channels and its statistics have 2"), ((2, 1, 1), "five axes.*3 were")],
)
def test_a_latent_of_another_shape_is_an_error(shape: tuple[int, ...], reason: str) -> None:
    scaling = LatentScaling(mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(UsageError, match=reason):
        scaling.to_raw(np.zeros(shape, np.float32))


def test_scaling_survives_json() -> None:
    scaling = LatentScaling(0.5, mean=(1.0, -2.0), std=(3.0, 4.0))
    assert LatentScaling.from_json(scaling.to_json()) == scaling
