"""Short square clips spread evenly over films, cut in one pass and held in memory as uint8 tensors.

The same for the same seed. `clips_on_demand.py` holds places instead, and decodes a clip when it is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.distillation.appearance import Appearance, vary
from edgekit.distillation.scenes import SCENE_CUT
from edgekit.distillation.video_files import files_of, opened
from edgekit.errors import UsageError


@dataclass(frozen=True)
class ClipSampling:
    clips: int
    frames: int
    """Consecutive frames in a clip."""
    size_px: int
    """Side of the square crop."""
    scales: tuple[float, ...] = (0.36, 0.5, 0.7, 1.0)
    """A clip is cut from the picture resized by one of these, so that detail of several sizes is seen."""
    appearance: Appearance | None = None
    """Random changes of each clip that is cut; None: as filmed."""


def cut_clips(video: Path, sampling: ClipSampling, seed: int) -> Tensor:
    """Cut clips spread evenly over `video`; a clip across a scene cut is left out.

    Returns:
        uint8 tensor, clips T 3 size size, with at most `sampling.clips` clips.

    Raises:
        ValueError: the file has not one such clip.
    """
    rng = np.random.default_rng(seed)
    clips: list[np.ndarray] = []
    with opened(video) as container:
        stream = container.streams.video[0]
        # Matroska does not store the number of frames.
        seconds = (container.duration or 0) / 1_000_000  # FFmpeg's AV_TIME_BASE
        count = stream.frames or int(seconds * float(stream.average_rate or 0))
        spacing = max(sampling.frames, math.ceil(count / sampling.clips))
        window: list[Any] = []
        for index, frame in enumerate(container.decode(stream)):
            phase = index % spacing
            if phase < sampling.frames:
                window.append(frame)
            if phase == sampling.frames - 1:
                clip = _crop(window, sampling, rng)
                if _is_one_scene(clip):
                    look = sampling.appearance
                    clips.append(clip if look is None else vary(clip, look, rng))
                window = []
    if not clips:
        raise ValueError(f"{video.name} has no {sampling.frames} frames in a row of one scene.")
    return torch.from_numpy(np.stack(clips[: sampling.clips]))


def cut_from_folder(videos: Path, sampling: ClipSampling, seed: int) -> Tensor:
    """Cut the same number of clips out of each video of a folder, `sampling.clips` in all, or of one file.

    The folders in it are searched as well.

    A video with no stretch that is long enough is left out. Raises UsageError if none is left, and for
    a file named like a video that is none.
    """
    files = files_of(videos)
    each = replace(sampling, clips=math.ceil(sampling.clips / len(files)))
    cut: list[Tensor] = []
    for number, file in enumerate(files):
        try:
            cut.append(cut_clips(file, each, seed + 1000 * number))
        except ValueError as error:
            reason = str(error)
    if not cut:
        raise UsageError(reason)
    return torch.cat(cut)[: sampling.clips]


def _crop(
    frames: list[Any], sampling: ClipSampling, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Resize `frames` by one random scale and cut the same random square out of each."""
    scale = float(rng.choice(sampling.scales))
    height = max(sampling.size_px, round(frames[0].height * scale))
    width = max(sampling.size_px, round(frames[0].width * scale))
    top = int(rng.integers(0, height - sampling.size_px + 1))
    left = int(rng.integers(0, width - sampling.size_px + 1))
    crops = []
    for frame in frames:
        picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        crops.append(picture[top : top + sampling.size_px, left : left + sampling.size_px])
    return np.stack(crops).transpose(0, 3, 1, 2)


def _is_one_scene(clip: np.ndarray) -> bool:
    steps = np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return bool((steps < SCENE_CUT).all())
