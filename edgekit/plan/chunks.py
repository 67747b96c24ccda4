"""Chunks of a clip, each decoded with some frames of its neighbours: the usual practice.

A chunk pads at its ends as if the clip ended there. Frames as far away from an end as the network
looks are exact all the same; those that an overlap is too thin for are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UsageError
from edgekit.plan.plan import Box, Window


@dataclass(frozen=True)
class Clip:
    """One input or output of a video network."""

    shape: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Of the frames: N C T H W, or a stack of images."""
        return 2 if len(self.shape) == 5 else 0

    @property
    def frames(self) -> int:
        return self.shape[self.dim]

    def part(self, start: int, stop: int) -> Box:
        return tuple(
            (start, stop) if dim == self.dim else (0, size) for dim, size in enumerate(self.shape)
        )


def chunk_length(clip: Clip, frames: int, overlap: int) -> int:
    """Input frames that each chunk reads. Raises UsageError where a chunk would be the whole clip."""
    if len(clip.shape) not in (4, 5) or clip.frames < 2:
        raise UsageError(
            f"The input of shape {clip.shape} has no frames to cut into chunks: a video is N C T H W, "
            "or a stack of images."
        )
    if overlap < 0 or frames < 1:
        raise UsageError(
            f"Chunks have 1 or more frames and an overlap of 0 or more; {frames} and {overlap} were given."
        )
    length = frames + 2 * overlap
    if length >= clip.frames:
        raise UsageError(
            f"Chunks of {frames} frames with {overlap} more on each side are as long as the clip of "
            f"{clip.frames}; give a longer clip, shorter chunks or less overlap."
        )
    return length


def chunk_windows(
    source: Clip, result: Clip, frames: int, overlap: int, chunk_frames: int
) -> tuple[Window, ...]:
    """All chunks, equally long: those at the ends reach further inwards, so one model serves all.

    `chunk_frames` are the output frames that the model makes of one chunk.

    Raises:
        UsageError: output frames do not follow the input's evenly, or need more overlap.
    """
    length = chunk_length(source, frames, overlap)
    stride, rest = divmod(result.frames - chunk_frames, source.frames - length)
    if rest or stride < 1:
        raise UsageError(
            f"{source.frames} input frames give {result.frames} and {length} give {chunk_frames}: such a "
            "network cannot be cut into chunks."
        )

    def finished(count: int) -> int:
        """Output frames that belong to the first input frames."""
        return result.frames - stride * (source.frames - count) if count else 0

    windows = []
    for first in range(0, source.frames, frames):
        last = min(first + frames, source.frames)
        start = min(max(first - overlap, 0), source.frames - length)
        write = (finished(first), finished(last))
        take = (write[0] - stride * start, write[1] - stride * start)
        if take[0] < 0:
            raise UsageError(
                "The first input frame of a chunk gives fewer frames than the others, so chunks need an "
                "overlap of 1 or more."
            )
        windows.append(
            Window(
                0, source.part(start, start + length), result.part(*write),
                take=result.part(*take) if take != (0, chunk_frames) else None,
            )
        )  # fmt: skip
    return tuple(windows)
