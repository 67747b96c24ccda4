"""A whole video network as one stream of frames, for clips of any length."""

from __future__ import annotations

from torch.fx import Node

from edgekit.errors import UsageError
from edgekit.plan.choose import described, require_cuts, require_grid
from edgekit.plan.frames import FrameAxis, frame_axes
from edgekit.plan.maps.index_map import shape
from edgekit.plan.memory import MemoryModel, macs_per_element, timeline
from edgekit.plan.network import Network
from edgekit.plan.path import Found, Stretch, Tiling
from edgekit.plan.region import elements, tile
from edgekit.plan.stages import strips
from edgekit.plan.steps import Stream


def streamed(network: Network, frames: int, grid: Tiling | None) -> Found:
    """From input to output at once, `frames` input frames a step, each in the tiles of a grid.

    Its peak is known when its programs are written. Raises UsageError where the network has no
    frames, or looks at all of them before it gives the first.
    """
    require_cuts(network)
    (source,), (result,) = network.inputs, network.outputs
    axis = require_stream(network, frames)
    if grid is not None:
        require_grid(network, grid)
        _require_images(result, axis, grid)
    rows, columns = (grid.rows, grid.columns) if grid is not None else (1, 1)
    steps = -(-int(axis.needed[-1]) // frames)
    tiling = Tiling(rows, columns, "frames", frames=steps, portion=frames)
    stretch = Stretch(source, result, result, tiling, 0, 0, 0, 0.0)
    macs = sum(_macs(stream) for stream in strips(network, stretch))
    whole = timeline(network, MemoryModel(input_counted=False))
    stretch = Stretch(source, result, result, tiling, 0, 0, macs, float(macs))
    return Found((stretch,), whole.peak_bytes, whole.macs)


def require_stream(network: Network, frames: int) -> FrameAxis:
    """The output's frames. Raises UsageError where they cannot be streamed in such steps."""
    (source,), (result,) = network.inputs, network.outputs
    axes = frame_axes(network)
    if source not in axes:
        raise UsageError(
            f"The input '{source.name}' of shape {shape(source)} has no frames to stream: a video is "
            "N C T H W, or a stack of images."
        )
    if result not in axes and len(shape(source)) == 5 and shape(source)[0] > 1:
        raise UsageError(f"A stream takes one video, and this batch has {shape(source)[0]}.")
    if result not in axes:
        lost = next(cut for cut in network.cuts() if cut not in axes)
        raise UsageError(
            f"{described(network, lost.name)} needs all frames at once, so this network cannot stream."
        )
    axis = axes[result]
    total, first = int(axis.needed[-1]), int(axis.needed[0])
    if len(axis.spans(0, frames)) < 2:
        raise UsageError(
            f"The first output frame needs {first} of {total} input frames, so steps of {frames} leave "
            f"nothing to stream at this length; give a clip of more than {first + frames} frames, or "
            "smaller steps."
        )
    return axis


def _require_images(result: Node, axis: FrameAxis, grid: Tiling) -> None:
    sizes = shape(result)
    if len(sizes) < 4 or axis.dim >= len(sizes) - 2:
        raise UsageError(f"The output of shape {sizes} has no images to cut into tiles of {grid}.")
    if grid.rows > sizes[-2] or grid.columns > sizes[-1]:
        raise UsageError(
            f"A grid of {grid} is finer than the output's images, {sizes[-2]}x{sizes[-1]}."
        )


def _macs(stream: Stream) -> int:
    return sum(_node_macs(stream, node) for node in stream.found.order)


def _node_macs(stream: Stream, node: Node) -> int:
    computed = stream.found.computed[node]
    count = sum(int(elements(tile(computed, step))) for step in range(stream.count))
    return count * macs_per_element(node)
