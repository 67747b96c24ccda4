"""Clips from video files: no clip crosses a cut, damaged files are named, the same seed gives the same clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="PyAV is in the extra 'train'")

import av
from tiny_teachers import brightening, write_video
from torch.utils.data import DataLoader

from edgekit.distillation.clips_on_demand import Augmentation, VideoClips
from edgekit.distillation.damage import DamagedError
from edgekit.distillation.fixed import Fixed
from edgekit.distillation.scenes import find_cuts, read_frames_at, scan
from edgekit.errors import UsageError


def scenes(*lengths: int) -> np.ndarray:
    """Scenes of still noise, each with its own, whose frames grow brighter."""
    return np.concatenate([brightening(n, seed=seed) for seed, n in enumerate(lengths)])


def test_scenes_are_found_and_frames_have_times(tmp_path: Path) -> None:
    video = scan(write_video(tmp_path / "a.mkv", scenes(9, 4, 12)))
    assert video.scenes == ((0, 9), (9, 13), (13, 25))
    assert len(video.shown) == 25
    assert (video.height, video.width) == (64, 80)


def test_a_cut_in_the_dark_is_found_and_fast_motion_is_none() -> None:
    rng = np.random.default_rng(0)
    dark = np.concatenate([np.tile(rng.integers(0, 40, (1, 32, 32)), (8, 1, 1)) for _ in range(2)])
    assert np.abs(np.diff(dark, axis=0)).mean(axis=(1, 2)).max() < 30
    assert find_cuts(dark.astype(np.int16)) == [8]
    moving = rng.integers(0, 40, (16, 32, 32)).astype(np.int16)  # as unlike, but all the time
    assert find_cuts(moving) == []


def test_a_single_frame_between_two_cuts_is_a_scene_of_its_own() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 32, 32)).astype(np.int16)
    assert find_cuts(pictures[[0, 0, 0, 1, 2, 2, 2]]) == [3, 4]


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [
    ("ffv1", "bgr0", ".mkv"), ("mpeg4", "yuv420p", ".mp4"), ("mpeg4", "yuv420p", ".avi"),
    ("libx264", "yuv420p", ".mp4"),
])  # fmt: skip
def test_frames_are_those_that_a_decoder_gives_from_the_start(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    """Codecs with key frames far apart and frames coded out of order."""
    file = write_video(tmp_path / f"a{suffix}", brightening(50), codec, pixels)
    with av.open(str(file)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shown = scan(file).shown
    assert len(expected) == len(shown)
    for first, step in ((0, 1), (17, 1), (31, 2), (45, 1)):
        found = read_frames_at(file, shown[first : first + 5 * step : step], (64, 80))
        assert np.array_equal(found, np.stack(expected[first : first + 5 * step : step]))


def test_no_clip_crosses_a_cut_and_none_is_given_away(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", scenes(9, 4, 12))
    clips = VideoClips(tmp_path, frames=4, size_px=64)
    assert [(w.first, w.end) for w in clips.windows] == [
        (0, 9), (4, 9), (9, 13), (13, 25), (17, 25), (21, 25)
    ]  # fmt: skip
    for clip in clips:
        assert clip.shape == (4, 3, 64, 64)
        assert (clip[1:].int() - clip[:-1].int() == 1).all()


def test_speed_skips_frames_within_the_scene(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", scenes(9, 4))
    clips = VideoClips(tmp_path, 4, 64, Augmentation(flip=0, speeds=(1, 2)))
    torch.manual_seed(0)
    assert {steps_of(clips[0]) for _ in range(12)} == {(1,), (2,)}
    assert {steps_of(clips[2]) for _ in range(12)} == {(1,)}  # its scene is too short


def steps_of(clip: torch.Tensor) -> tuple[int, ...]:
    return tuple((clip[1:].int() - clip[:-1].int()).unique().tolist())


def test_crops_and_flips_are_the_same_for_all_frames_and_move_with_the_seed(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", brightening(6, 64, 128))
    clips = VideoClips(tmp_path, 4, 64, Augmentation())
    whole = VideoClips(tmp_path, 4, 64)._videos
    file, video = next(iter(whole.items()))
    picture = read_frames_at(file, video.shown[:1], (64, 128))[0]
    windows = {picture[:, x : x + 64].tobytes(): (x, 1) for x in range(65)}
    windows |= {picture[:, x : x + 64][:, ::-1].tobytes(): (x, -1) for x in range(65)}
    seen = set()
    for seed in range(16):
        torch.manual_seed(seed)
        clip = clips[0]
        torch.manual_seed(seed)
        assert torch.equal(clip, clips[0])
        assert (clip[1:].int() - clip[:-1].int() == 1).all()
        seen.add(windows[clip[0].permute(1, 2, 0).contiguous().numpy().tobytes()])
    assert {way for _, way in seen} == {1, -1}
    assert len({x for x, _ in seen}) > 6


def test_fixed_clips_are_the_same_each_time_and_leave_the_generator_alone(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", brightening(8, 64, 128))
    fixed = Fixed(VideoClips(tmp_path, 4, 64, Augmentation()), seed=1, variants=6)
    assert (len(fixed), fixed.frames) == (12, 4)
    torch.manual_seed(0)
    first = [fixed[index] for index in range(12)]
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    in_workers = list(DataLoader(fixed, batch_size=None, num_workers=2))
    assert all(torch.equal(one, other) for one, other in zip(first, in_workers, strict=True))
    assert len({clip.numpy().tobytes() for clip in first}) > 8


def damaged_folder(folder: Path) -> Path:
    good = write_video(folder / "good.mkv", brightening(12))
    for suffix in (".mkv", ".mp4"):
        codec = ("ffv1", "bgr0") if suffix == ".mkv" else ("mpeg4", "yuv420p")
        cut = write_video(folder / f"cut{suffix}", brightening(48), *codec)
        whole = cut.read_bytes()
        cut.write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("this is no film")
    (folder / "empty.mp4").touch()
    assert good.exists()
    return folder


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        VideoClips(damaged_folder(tmp_path), 4, 32)
    message = str(raised.value)
    assert message.startswith("4 of 5 files cannot be used")
    for name in ("cut.mkv", "cut.mp4", "text.mp4", "empty.mp4"):
        assert name in message
    assert "good.mkv" not in message


def test_damaged_files_are_left_out_by_name_where_asked(tmp_path: Path) -> None:
    clips = VideoClips(damaged_folder(tmp_path), 4, 32, on_damage="skip")
    assert [one.file.name for one in clips.skipped] == [
        "cut.mkv",
        "cut.mp4",
        "empty.mp4",
        "text.mp4",
    ]
    assert "breaks off after" in clips.skipped[0].reason
    assert {window.file.name for window in clips.windows} == {"good.mkv"}
    (tmp_path / "good.mkv").unlink()
    with pytest.raises(UsageError, match="Not one of 4 files can be used"):
        VideoClips(tmp_path, 4, 32, on_damage="skip")


def test_what_gives_no_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video file or folder"):
        VideoClips(tmp_path / "absent", 4, 32)
    with pytest.raises(UsageError, match="has no videos"):
        VideoClips(tmp_path, 4, 32)
    write_video(tmp_path / "a.mkv", scenes(5, 5))
    with pytest.raises(UsageError, match="no scene of 6 frames, in 1 video"):
        VideoClips(tmp_path, 6, 32)
    with pytest.raises(UsageError, match=r"flip is 2"):
        Augmentation(flip=2)
    with pytest.raises(UsageError, match=r"speeds are \(0,\)"):
        Augmentation(speeds=(0,))


def test_a_file_that_changes_after_the_scan_is_named(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mkv", brightening(12))
    clips = VideoClips(tmp_path, 4, 64)
    write_video(file, brightening(5))
    with pytest.raises(
        UsageError, match=r"a\.mkv was readable when it was scanned.*was it changed\?"
    ):
        clips[2]
    file.write_text("nothing")
    with pytest.raises(DamagedError, match="cannot be read"):
        scan(file)


def test_the_index_spares_a_scan_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.distillation import clips_on_demand

    file = write_video(tmp_path / "clips" / "a.mkv", scenes(6, 6))
    index = tmp_path / "run" / "videos.json"
    before = VideoClips(file, 4, 64, index=index).windows
    scanned: list[Path] = []

    def counted(path: Path) -> object:
        scanned.append(path)
        return scan(path)

    monkeypatch.setattr(clips_on_demand, "scan", counted)
    assert VideoClips(file, 4, 64, index=index).windows == before
    assert scanned == []
    write_video(file, scenes(7, 8))
    assert len(VideoClips(file, 4, 64, index=index).windows) == 3
    assert scanned == [file]
    index.write_text("{")
    with pytest.raises(UsageError, match="is no index of videos"):
        VideoClips(file, 4, 64, index=index)


def test_fewer_clips_are_spread_over_all(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", brightening(40))
    clips = VideoClips(tmp_path, 4, 64, most=3)
    assert [window.first for window in clips.windows] == [0, 12, 24]
