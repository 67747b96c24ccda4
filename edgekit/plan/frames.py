"""Which dimension of a tensor holds a video's frames, and how many input frames its first ones need.

Frames are the third dimension of an input N C T H W, and the first of a stack of images N C H W. A
network may move them (a 3D convolution over shifted frames has them in the batch), repeat them, drop
some: index maps tell where they have gone, from one cut to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgekit.plan.maps.index_map import shape
from edgekit.plan.network import Network, boxes
from edgekit.plan.region import Region, whole

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FrameAxis:
    """Of one tensor."""

    dim: int
    needed: Counts = field(repr=False)
    """For each number of its first frames, from 1 on: the input frames that they need."""

    def spans(self, steps: int, portion: int | None = None) -> list[tuple[int, int]]:
        """What can be computed at each of `steps` equal portions of the input, but not before.

        A `portion` says how many frames they have, but for the last one. Portions that complete nothing
        have no span, so there may be fewer.
        """
        frames = int(self.needed[-1])
        portion = portion or -(-frames // min(steps, frames))
        arrived = [*range(portion, frames, portion), frames]
        ends = np.searchsorted(self.needed, arrived, side="right").tolist()
        return [(start, stop) for start, stop in pairwise([0, *ends]) if stop > start]


def frame_axes(network: Network) -> dict[Node, FrameAxis]:
    """Of every cut tensor of a network of one input, as far as its frames can be followed."""
    (first,) = network.inputs
    sizes = shape(first)
    if len(sizes) not in (4, 5):
        return {}
    dim = 2 if len(sizes) == 5 else 0
    frames = sizes[dim]
    if frames < 2:
        return {}
    axes = {first: FrameAxis(dim, np.arange(1, frames + 1))}
    for before, cut in pairwise(network.cuts()):
        if before not in axes:
            break
        axis = _followed(network, before, axes[before], cut)
        if axis is not None:
            axes[cut] = axis
    return axes


def _followed(network: Network, before: Node, axis: FrameAxis, cut: Node) -> FrameAxis | None:
    """The dimension whose first element needs fewer frames of the cut before, or later ones do."""
    sizes = shape(cut)
    for dim, size in enumerate(sizes):
        if size < 2:
            continue
        needed = _first_needed(network, before, axis, cut, dim)
        if needed is not None:
            return FrameAxis(dim, needed)
    return None


def _first_needed(
    network: Network, before: Node, axis: FrameAxis, cut: Node, dim: int
) -> Counts | None:
    """Input frames that the first 1, 2, ... of a dimension need; None if it does not hold frames."""
    size = shape(cut)[dim]
    starts, stops = np.arange(size), np.arange(1, size + 1)
    apart: Region = tuple(
        (starts, stops) if position == dim else span
        for position, span in enumerate(whole(shape(cut)))
    )
    read = boxes(network, (before,), {cut: apart}).read.get(before)
    if read is None:
        return None
    first, last = (np.broadcast_to(np.asarray(bound), (size,)) for bound in read[axis.dim])
    if first[-1] == first[0] and last[-1] == last[0]:
        return None
    needed: Counts = axis.needed[np.maximum.accumulate(last) - 1]
    return needed
