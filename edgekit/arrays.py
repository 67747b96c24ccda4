"""Arrays of `edgekit run`: read from .npy, written as .npy and, for videos and images, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekit.contract import TensorSpec
from edgekit.errors import MissingEnvironmentError, UsageError, first_line

Array = npt.NDArray[np.generic]
SHEET_FRAMES = 8
NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"


def read_array(path: Path) -> Array:
    """Raises UsageError for a file that is missing or no plain .npy array."""
    try:
        with path.open("rb") as file:
            head = file.read(len(NPY))
            if head.startswith(ZIP):
                raise UsageError(f"{path} is an archive of arrays; save one with numpy.save.")
            if head != NPY:
                raise UsageError(f"{path} is no .npy file; save the array with numpy.save.")
            file.seek(0)
            value: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(getattr(error, "strerror", None) or first_line(error)).rstrip(".")
        raise UsageError(f"{path} is no .npy array that can be read: {reason}.") from error
    if value.dtype.kind not in "fiub":
        raise UsageError(f"{path} holds {value.dtype}; models take real numbers.")
    return value


def write_results(
    folder: Path, results: Mapping[str, Array], specs: Sequence[TensorSpec]
) -> list[Path]:
    """Write every result, and a PNG of those with a declared range that are images or videos.

    An image is N 3 H W; of a video N 3 T H W it is a row of frames.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in results.items():
            written.append(folder / f"{name}.npy")
            np.save(written[-1], value)
        for spec in specs:
            if spec.axes in ("NCTHW", "NCHW") and spec.span and spec.name in results:
                first = results[spec.name][0]
                video = first if spec.axes == "NCTHW" else first[:, None]
                written.append(folder / f"{spec.name}.png")
                frame_row(to_pixels(video, spec)).save(written[-1])
    except OSError as error:
        raise MissingEnvironmentError(
            f"{folder} cannot be written: {error.strerror or error}; choose another place with -o."
        ) from error
    return written


def to_pixels(video: Array, spec: TensorSpec) -> npt.NDArray[np.uint8]:
    """3 T H W in the spec's range to T H W 3 in 0..255."""
    low, span = spec.low or 0.0, spec.span or 1.0
    unit = (np.asarray(video, dtype=np.float32) - low) / span
    pixels: npt.NDArray[np.uint8] = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return pixels.transpose(1, 2, 3, 0)


def frame_row(frames: npt.NDArray[np.uint8]) -> Image.Image:
    """Up to eight frames of T H W 3, spread evenly over the clip, side by side."""
    chosen = np.linspace(0, len(frames) - 1, min(SHEET_FRAMES, len(frames))).round().astype(int)
    return Image.fromarray(np.concatenate([frames[index] for index in chosen], axis=1))
