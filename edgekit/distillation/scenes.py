"""Where the scenes of a video begin and end, and when each of its frames is shown.

A cut lies between two frames whose 32x32 grey thumbnails differ by more than 30 of 255 on average; or by
more than 10, and by more than 5 times the mean of the two differences before and the two after: cuts
within dark or dull films, which the first rule misses. Hard cuts only: a dissolve counts as one scene.
A flash or a pan that is taken for a cut costs a clip and does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.distillation.damage import DamagedError
from edgekit.distillation.video_files import pyav
from edgekit.errors import first_line

THUMBNAIL_PX = 32
SCENE_CUT = 30.0
"""Mean absolute difference of neighbouring frames, of 255, that two scenes show."""
LEAST_CUT, LEAST_RATIO = 10.0, 5.0
COMPLETE = 0.97  # of the frames that a file announces: rates are rounded, last frames are dropped
UNANNOUNCED = ("mpeg", "mpegts", "mpegvideo", "h264", "hevc")  # FFmpeg guesses their duration


@dataclass(frozen=True)
class Video:
    shown: tuple[int, ...]
    """When each frame is shown, in the stream's unit of time; growing."""
    scenes: tuple[tuple[int, int], ...]
    """First frame and the one behind the last."""
    height: int
    width: int


def scan(file: Path) -> Video:
    """Decode all of a file once. Raises DamagedError for one that is no video, or that breaks off."""
    av = pyav()
    thumbnails: list[npt.NDArray[np.int16]] = []
    shown: list[int] = []
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise DamagedError("it has no video in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            announced = _announced(container, stream)
            for frame in container.decode(stream):
                if frame.pts is None:
                    raise DamagedError(
                        "its frames have no time stamps; put it into another container"
                    )
                shown.append(frame.pts)
                small = frame.reformat(THUMBNAIL_PX, THUMBNAIL_PX, "gray").to_ndarray()
                thumbnails.append(small.astype(np.int16))
    except (av.FFmpegError, OSError) as error:
        where = f"after {len(shown)} frames " if shown else ""
        raise DamagedError(f"it cannot be read {where}({first_line(error)})") from error
    if not shown:
        raise DamagedError("it has no frames")
    if len(shown) < COMPLETE * announced - 1:
        raise DamagedError(f"it breaks off after {len(shown)} of {announced:.0f} frames")
    if any(one >= other for one, other in pairwise(shown)):
        raise DamagedError("its time stamps do not grow")
    cuts = find_cuts(np.stack(thumbnails))
    return Video(
        tuple(shown), tuple(zip((0, *cuts), (*cuts, len(shown)))), stream.height, stream.width
    )


def find_cuts(thumbnails: npt.NDArray[np.int16]) -> list[int]:
    """Of grey pictures T H W: the frames that begin another scene."""
    steps = np.abs(np.diff(thumbnails, axis=0)).mean(axis=(1, 2))
    padded = np.pad(steps, 2)
    beside = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    is_cut = (steps > SCENE_CUT) | ((steps > LEAST_CUT) & (steps > LEAST_RATIO * beside))
    return [int(index) + 1 for index in np.flatnonzero(is_cut)]


def read_frames_at(file: Path, shown: tuple[int, ...], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The frames shown at these times, resized to (height, width): uint8 T H W 3.

    Raises DamagedError if the file has them no more.
    """
    av = pyav()
    wanted = set(shown)
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            container.seek(shown[0], stream=stream)
            found = _take(container, stream, wanted, shown[-1], size)
            if len(found) < len(shown):  # some containers seek behind what was asked for
                container.seek(0, stream=stream)
                found = _take(container, stream, wanted, shown[-1], size)
    except (av.FFmpegError, OSError) as error:
        raise DamagedError(f"it cannot be read any more ({first_line(error)})") from error
    if len(found) < len(shown):
        raise DamagedError(f"it has {len(found)} of {len(shown)} frames of a clip")
    return np.stack([found[time] for time in shown])


def _take(
    container: Any, stream: Any, wanted: set[int], last: int, size: tuple[int, int]
) -> dict[int, npt.NDArray[Any]]:
    found: dict[int, npt.NDArray[Any]] = {}
    for frame in container.decode(stream):
        if frame.pts in wanted:
            resized = frame.reformat(width=size[1], height=size[0], format="rgb24")
            found[frame.pts] = resized.to_ndarray()
        if frame.pts is not None and frame.pts >= last:
            break
    return found


def _announced(container: Any, stream: Any) -> float:
    """How many frames the file says it has; 0: it does not say."""
    if container.format.name in UNANNOUNCED:
        return 0.0
    seconds = (container.duration or 0) / 1_000_000  # FFmpeg's AV_TIME_BASE
    return float(stream.frames or seconds * float(stream.average_rate or 0))
