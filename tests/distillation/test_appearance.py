from __future__ import annotations

import numpy as np
import pytest

from edgekit.distillation.appearance import Appearance, vary

AS_FILMED = {
    "mirrored": 0.0,
    "channels_permuted": 0.0,
    "inverted": 0.0,
    "toned": 0.0,
    "sharpened": 0.0,
    "noisy": 0.0,
}


def only(change: str) -> Appearance:
    return Appearance(**{**AS_FILMED, change: 1.0})


@pytest.fixture
def clip() -> np.ndarray:
    """A still clip of four frames."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 6), dtype=np.uint8)
    return picture.repeat(4, axis=0)


def varied(clip: np.ndarray, appearance: Appearance, seed: int = 0) -> np.ndarray:
    return vary(clip, appearance, np.random.default_rng(seed))


def test_nothing_changes_where_nothing_is_asked(clip: np.ndarray) -> None:
    assert np.array_equal(varied(clip, Appearance(**AS_FILMED)), clip)


def test_mirrored_and_inverted_are_exact(clip: np.ndarray) -> None:
    assert np.array_equal(varied(clip, only("mirrored")), clip[..., ::-1])
    assert np.array_equal(varied(clip, only("inverted")), 255 - clip)


def test_permuted_channels_are_the_same_channels(clip: np.ndarray) -> None:
    seen = {varied(clip, only("channels_permuted"), seed).tobytes() for seed in range(40)}
    assert len(seen) == 6
    assert all(sorted(map(int, one)) == sorted(clip.flatten().tolist()) for one in map(bytes, seen))


@pytest.mark.parametrize("change", ["toned", "sharpened"])
def test_a_still_clip_stays_still(clip: np.ndarray, change: str) -> None:
    found = varied(clip, only(change))
    assert not np.array_equal(found, clip)
    assert (found == found[:1]).all()


def test_sharpening_leaves_flat_pictures_alone() -> None:
    flat = np.full((1, 3, 8, 8), 90, dtype=np.uint8)
    assert np.array_equal(varied(flat, only("sharpened")), flat)


def test_noise_differs_from_frame_to_frame_and_is_no_larger_than_declared() -> None:
    grey = np.full((6, 3, 64, 64), 128, dtype=np.uint8)
    spreads = [varied(grey, only("noisy"), seed).astype(float).std() / 255 for seed in range(20)]
    assert max(spreads) < 0.062
    assert max(spreads) > 0.03
    noisy = varied(grey, only("noisy"))
    assert not np.array_equal(noisy[0], noisy[1])


def test_the_same_seed_gives_the_same_clip(clip: np.ndarray) -> None:
    look = Appearance()
    assert np.array_equal(varied(clip, look, 5), varied(clip, look, 5))
    assert not np.array_equal(varied(clip, look, 5), varied(clip, look, 6))
