"""Clips of a folder of videos as a data set: decoded when drawn, none across a scene cut.

`clips_in_memory.py` cuts a number of them at once instead, for sets that are kept whole.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgekit.distillation.checkpoints import write_whole
from edgekit.distillation.damage import DamagedError, OnDamage, readable
from edgekit.distillation.run_folder import digest
from edgekit.distillation.scenes import Video, read_frames_at, scan
from edgekit.distillation.video_files import files_of
from edgekit.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Random choices for each draw, by torch's generator, which the loop seeds."""

    flip: float = 0.5
    """Share of mirrored clips."""
    random_crop: bool = True
    """Else from the middle."""
    speeds: tuple[int, ...] = (1,)
    """Of these, where the scene is long enough: every frame, every second, ..."""

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise UsageError(f"flip is {self.flip}; it is a share, from 0 to 1.")
        if not self.speeds or any(speed < 1 for speed in self.speeds):
            raise UsageError(f"speeds are {self.speeds}; they are whole numbers from 1 up.")


AS_FILMED = Augmentation(flip=0.0, random_crop=False)


@dataclass(frozen=True)
class Window:
    """A clip's place: frames from `first` on, of a scene that ends before frame `end`."""

    file: Path
    first: int
    end: int


class VideoClips(Dataset[Tensor]):
    """Clips uint8 T 3 size size: the picture resized so that its shorter side has `size_px`, then cut.

    Each scene gives as many clips as fit into it one behind the other.
    """

    def __init__(
        self,
        videos: Path,
        frames: int,
        size_px: int,
        augmentation: Augmentation = AS_FILMED,
        *,
        on_damage: OnDamage = "refuse",
        index: Path | None = None,
        most: int | None = None,
    ) -> None:
        """Scans all files, once: with `index`, a JSON file, only those that it does not hold as they are.

        Args:
            videos: a file, or a folder, which is searched with all folders in it.
            most: so many clips, spread evenly over all.

        Raises:
            UsageError: there is no video, a file is damaged and not to be skipped, or no scene is as long
                as a clip.
        """
        self.frames = frames
        self._size_px = size_px
        self._augmentation = augmentation
        files = files_of(videos)
        known = _Index(index)
        self._videos, self.skipped = readable(files, known.scan, on_damage)
        known.write(self._videos)
        self.windows = [
            Window(file, first, end)
            for file, video in self._videos.items()
            for begin, end in video.scenes
            for first in range(begin, end - frames + 1, frames)
        ]
        if not self.windows:
            raise UsageError(
                f"{videos} has no scene of {frames} frames, in {len(self._videos)} "
                f"video{'s' if len(self._videos) > 1 else ''}; a clip does not cross a cut."
            )
        if most is not None and most < len(self.windows):
            self.windows = [self.windows[n * len(self.windows) // most] for n in range(most)]
        self._root = videos if videos.is_dir() else videos.parent  # the folder may move
        self.made_by = {
            "frames": frames,
            "size_px": size_px,
            "augmentation": augmentation,
            "windows": digest(
                (one.file.relative_to(self._root).as_posix(), one.first, one.end)
                for one in self.windows
            ),
        }

    def __len__(self) -> int:
        return len(self.windows)

    def source(self, index: int) -> str:
        """What decides the clip, but for random choices, without decoding it: its file as it is, and its place."""
        window = self.windows[index]
        facts = window.file.stat()
        where = window.file.relative_to(self._root).as_posix()
        return (
            f"{where} {facts.st_size} {facts.st_mtime_ns} {window.first}-{window.end} "
            f"{self.frames}x{self._size_px} {self._augmentation}"
        )

    def __getitem__(self, index: int) -> Tensor:
        window = self.windows[index]
        choice = self._augmentation
        fits = [s for s in choice.speeds if window.first + s * (self.frames - 1) < window.end] or [
            1
        ]
        speed = fits[_below(len(fits))]
        video = self._videos[window.file]
        times = video.shown[window.first : window.first + speed * (self.frames - 1) + 1 : speed]
        scale = self._size_px / min(video.height, video.width)
        grown = round(video.height * scale), round(video.width * scale)
        try:
            pictures = read_frames_at(window.file, times, grown)
        except DamagedError as error:
            raise UsageError(
                f"{window.file} was readable when it was scanned: {error}; was it changed?"
            ) from error
        spare = [grown[axis] - self._size_px for axis in (0, 1)]
        top, left = (_below(n + 1) if choice.random_crop else n // 2 for n in spare)
        cut = pictures[:, top : top + self._size_px, left : left + self._size_px]
        if choice.flip and float(torch.rand(())) < choice.flip:
            cut = cut[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(cut.transpose(0, 3, 1, 2)))


class _Index:
    """What is known of files from an earlier scan: by path, size and time of change."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            try:
                self._known = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UsageError(f"{path} is no index of videos ({error}); delete it.") from error

    def scan(self, file: Path) -> Video:
        found = self._known.get(_key(file))
        if found is None:
            return scan(file)
        scenes = tuple((begin, end) for begin, end in found["scenes"])
        return Video(tuple(found["shown"]), scenes, found["height"], found["width"])

    def write(self, videos: dict[Path, Video]) -> None:
        is_first = not int(os.environ.get("RANK", 0))  # of processes that scan the same
        if self._path is not None and is_first:
            known = {_key(file): asdict(video) for file, video in videos.items()}
            if known != self._known:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, json.dumps(known).encode())


def _key(file: Path) -> str:
    facts = file.stat()
    return f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _below(count: int) -> int:
    return int(torch.randint(count, ())) if count > 1 else 0
