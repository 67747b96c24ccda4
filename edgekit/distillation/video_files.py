"""Which files are videos, and frames of one, read by PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.errors import MissingEnvironmentError, UsageError, first_line

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def pyav() -> Any:
    """The module `av`. Raises MissingEnvironmentError."""
    try:
        import av
    except ImportError as error:
        raise MissingEnvironmentError(
            "Reading videos needs PyAV; install it with: pip install 'edgekit-vision[train]'."
        ) from error
    return av


def files_of(videos: Path) -> list[Path]:
    """The file itself, or the videos of a folder and of all folders in it, in order.

    Raises UsageError if there is none.
    """
    if not videos.exists():
        raise UsageError(f"There is no video file or folder {videos}.")
    if videos.is_file():
        return [videos]
    files = sorted(path for path in videos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(
            f"The folder {videos} has no videos: no file ends in {', '.join(SUFFIXES)}."
        )
    return files


def opened(video: Path) -> Any:
    """A PyAV container. Raises UsageError for a file it cannot open."""
    av = pyav()
    try:
        container = av.open(str(video))
    except (av.FFmpegError, OSError) as error:
        raise UsageError(f"{video} cannot be read as a video: {first_line(error)}.") from error
    if not container.streams.video:
        container.close()
        raise UsageError(f"{video} has no video in it.")
    return container


def read_frames(video: Path, first: int, count: int, multiple: int = 8) -> Tensor:
    """`count` consecutive whole frames from index `first`, centre-cropped to a multiple of pixels.

    Returns:
        float32 tensor T 3 H W in [0, 1].

    Raises:
        ValueError: the file ends before `first + count` frames.
    """
    frames: list[np.ndarray] = []
    with opened(video) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
    if len(frames) < count:
        raise ValueError(f"{video.name} has no {count} frames from frame {first} on.")
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    height, width = (
        pictures.shape[2] // multiple * multiple,
        pictures.shape[3] // multiple * multiple,
    )
    top, left = (pictures.shape[2] - height) // 2, (pictures.shape[3] - width) // 2
    return pictures[:, :, top : top + height, left : left + width].float() / 255
