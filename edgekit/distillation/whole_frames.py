"""Pictures of a folder, and every so many frames of its videos, whole and one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edgekit.detection.picture_file import SUFFIXES, read_picture
from edgekit.distillation import video_files
from edgekit.distillation.damage import readable
from edgekit.distillation.scenes import Video, scan
from edgekit.errors import MissingEnvironmentError, UsageError, first_line


@dataclass(frozen=True)
class Frame:
    picture: Image.Image
    """RGB, upright."""
    source: str
    """The file, relative to the folder."""
    number: int | None
    """Of the frame in its video, from 0."""
    is_held_out: bool


class WholeFrames:
    """Frames of one file, or of all files in a folder and the folders in it, by name."""

    def __init__(self, data: Path, every: int = 1, held_out: float = 0.0) -> None:
        """Decodes each video once, to find the damaged.

        Args:
            every: frames of a video from one that is taken to the next.
            held_out: share of each video, at its end, and of the pictures, the last by name, that is
                held out: neighbouring frames are too much alike to be spread over both.

        Raises UsageError if there is nothing, or a video is damaged; MissingEnvironmentError for videos
        without PyAV.
        """
        if every < 1:
            raise UsageError(f"Every {every} frames is none; it must be 1 or more.")
        if not 0 <= held_out < 1:
            raise UsageError(f"A held-out share of {held_out:g} is none: from 0 to below 1.")
        if not data.exists():
            raise UsageError(f"There is no file or folder {data}.")
        self._root = data if data.is_dir() else data.parent
        files = sorted(data.rglob("*")) if data.is_dir() else [data]
        self._pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
        found = [file for file in files if file.suffix.lower() in video_files.SUFFIXES]
        if not self._pictures and not found:
            raise UsageError(
                f"{data} holds no pictures and no videos: no file ends in "
                f"{', '.join((*SUFFIXES, *video_files.SUFFIXES))}."
            )
        self._videos = readable(found, scan, "refuse", "Remove them.")[0] if found else {}
        self._every, self._held_out = every, held_out

    def __len__(self) -> int:
        taken = (-(-len(video.shown) // self._every) for video in self._videos.values())
        return len(self._pictures) + sum(taken)

    def __iter__(self) -> Iterator[Frame]:
        """Raises UsageError for a picture that cannot be read."""
        trained = _trained(len(self._pictures), self._held_out)
        for place, file in enumerate(self._pictures):
            yield Frame(read_picture(file), self._named(file), None, place >= trained)
        for file, video in self._videos.items():
            yield from self._frames(file, video)

    def _frames(self, file: Path, video: Video) -> Iterator[Frame]:
        try:
            import av
        except ImportError as error:  # `scan` was able to
            raise MissingEnvironmentError("PyAV went away while videos were read.") from error
        trained = _trained(len(video.shown), self._held_out)
        try:
            with av.open(str(file)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number % self._every == 0:
                        yield Frame(upright(frame), self._named(file), number, number >= trained)
        except (av.FFmpegError, OSError) as error:
            raise UsageError(
                f"{file} was readable when it was scanned, and is not any more: {first_line(error)}."
            ) from error

    def _named(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()


def upright(frame: Any) -> Image.Image:
    """A frame as it is shown: a phone that is held upright stores it lying, with the angle beside it."""
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True)  # both count degrees against the clock


def _trained(count: int, held_out: float) -> int:
    return count - round(count * held_out)
