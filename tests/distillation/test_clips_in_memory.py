from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.distillation.clips_in_memory import ClipSampling, cut_clips
from edgekit.distillation.video_files import read_frames

av = pytest.importorskip("av")
SAMPLING = ClipSampling(clips=4, frames=3, size_px=16)


def write_video(path: Path, pictures: np.ndarray) -> Path:
    """uint8 T H W 3, coded without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "bgr0"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def pictures() -> np.ndarray:
    """A still, noisy picture that grows brighter by one a frame."""
    noise = np.random.default_rng(0).integers(0, 200, (1, 32, 48, 3))
    return (noise + np.arange(24).reshape(-1, 1, 1, 1)).astype(np.uint8)


def test_clips_have_the_declared_size_and_are_equal_for_equal_seeds(
    tmp_path: Path, pictures: np.ndarray
) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    clips = cut_clips(video, SAMPLING, seed=3)
    assert clips.dtype == torch.uint8
    assert clips.shape[1:] == (3, 3, 16, 16)
    assert 1 <= len(clips) <= 4
    assert torch.equal(clips, cut_clips(video, SAMPLING, seed=3))
    assert not torch.equal(clips, cut_clips(video, SAMPLING, seed=4))


def test_a_clip_holds_the_same_square_of_consecutive_frames(
    tmp_path: Path, pictures: np.ndarray
) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    sampling = ClipSampling(clips=4, frames=3, size_px=16, scales=(1.0,))
    for clip in cut_clips(video, sampling, seed=0).int():
        assert ((clip[1:] - clip[:-1]) == 1).all()


def test_a_clip_across_a_scene_cut_is_left_out(tmp_path: Path, pictures: np.ndarray) -> None:
    cut = pictures.copy()
    cut[13:] = 255 - cut[13:]
    every = ClipSampling(clips=8, frames=3, size_px=16, scales=(1.0,))
    assert len(cut_clips(write_video(tmp_path / "a.mkv", pictures), every, seed=0)) == 8
    assert len(cut_clips(write_video(tmp_path / "b.mkv", cut), every, seed=0)) == 7


def test_clips_are_spread_over_the_video_where_the_file_does_not_count_its_frames(
    tmp_path: Path, pictures: np.ndarray
) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    two = ClipSampling(clips=2, frames=3, size_px=32, scales=(1.0,))
    first, second = cut_clips(video, two, seed=0).float().mean(dim=(1, 2, 3, 4))
    assert float(second - first) == pytest.approx(12, abs=3)


def test_a_video_without_one_whole_clip_is_an_error(tmp_path: Path, pictures: np.ndarray) -> None:
    video = write_video(tmp_path / "short.mkv", pictures[:2])
    with pytest.raises(ValueError, match=r"short\.mkv"):
        cut_clips(video, SAMPLING, seed=0)


def test_frames_are_read_from_where_they_were_asked(tmp_path: Path, pictures: np.ndarray) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    frames = read_frames(video, first=5, count=2)
    assert frames.shape == (2, 3, 32, 48)
    expected = torch.from_numpy(pictures[5:7]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(frames, expected, rtol=0, atol=0)


def test_frames_are_cropped_in_the_middle_to_the_multiple(
    tmp_path: Path, pictures: np.ndarray
) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    frames = read_frames(video, first=0, count=1, multiple=20)
    expected = torch.from_numpy(pictures[:1, 6:26, 4:44]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(frames, expected, rtol=0, atol=0)


def test_a_video_that_ends_too_early_is_named(tmp_path: Path, pictures: np.ndarray) -> None:
    video = write_video(tmp_path / "a.mkv", pictures)
    with pytest.raises(ValueError, match=r"a\.mkv has no 5 frames from frame 22 on"):
        read_frames(video, first=22, count=5)
