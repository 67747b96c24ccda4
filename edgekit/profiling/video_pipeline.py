"""From a video's file to what a user sees of its frames, and from a latent to an encoded video, by PyAV."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekit.arrays import read_array, to_pixels
from edgekit.backends.runnable import Array
from edgekit.detection.letterbox import Pixels
from edgekit.detection.reduced_decode import enough
from edgekit.distillation.video_files import opened, pyav
from edgekit.errors import UsageError, first_line
from edgekit.image_contract import ImageContract, Logits
from edgekit.profiling.pipeline import NETWORK, Network, Step, Way, answered, contract_of
from edgekit.split.picture import CROPPED

CODECS = {"libx264": {"preset": "veryfast", "tune": "zerolatency"}, "mpeg4": {}}
"""Encoders of videos, the first that PyAV has: of options with which each frame's time is its own."""
MOST_PACKETS = 2000
"""That a decoder may take before it gives a frame."""
DEFAULT_RATE = Fraction(30)


def video_ways(network: Network, clip: Path, threads: int) -> tuple[Way, ...]:
    """Of a network that takes pictures, frame by frame. Raises UsageError or MissingEnvironmentError."""
    contract = contract_of(network.bundle)

    def steps(smaller: ImageContract | None) -> tuple[Step, ...]:
        frames = Clip(clip, threads)
        encoder = Encoder(frames.rate, threads)
        written = (
            Step("colour back", encoder.coloured),
            Step(f"encode {encoder.codec}", encoder.encoded),
        )
        return (
            Step("read", frames.read),
            Step("decode", frames.decode),
            Step("colour", lambda frame: frames.picture(frame, smaller)),
            *answered(network, written),
        )

    return (
        Way("frames whole", lambda: steps(None)),
        Way("frames scaled with their colours", lambda: steps(contract)),
    )


def latent_ways(network: Network, latent: Path, threads: int) -> tuple[Way, ...]:
    """Of a video decoder: its whole clip is one pass. Raises UsageError or MissingEnvironmentError."""
    bundle = network.bundle
    (given,), made = bundle.inputs, bundle.outputs[0]
    if given.axes != "NCTHW" or made.axes != "NCTHW" or not made.span:
        raise UsageError(f"{bundle.path.name} makes no video of a latent; leave --latent away.")
    found = read_array(latent)
    if found.shape != given.shape:
        raise UsageError(
            f"The latent of {latent} is of shape {found.shape} and {bundle.path.name} takes {given.shape}."
        )

    def pixels(outputs: Mapping[str, Array]) -> Pixels:
        return np.ascontiguousarray(to_pixels(outputs[made.name][0], made))

    def steps() -> tuple[Step, ...]:
        encoder = Encoder(DEFAULT_RATE, threads)
        return (
            Step("read", lambda _: (read_array(latent).astype(given.dtype),)),
            Step(NETWORK, lambda state: network.file.run({given.name: state[0]})),
            Step("to 8 bits", pixels),
            Step("colour back", encoder.coloured),
            Step(f"encode {encoder.codec}", encoder.encoded),
        )

    return (Way("whole clip", steps),)


class Clip:
    """Frames of a video, over and over, of one caller."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.container = opened(path)
        self.stream = self.container.streams.video[0]
        self.stream.thread_count = threads
        self.packets = self.container.demux(self.stream)
        self.waiting: deque[Any] = deque()
        # One for all frames: each frame's own is set up anew, five times the work at 640x272.
        self.scaler = pyav().video.reformatter.VideoReformatter()

    @property
    def rate(self) -> Fraction:
        return Fraction(self.stream.average_rate or DEFAULT_RATE)

    @property
    def size(self) -> tuple[int, int]:
        return self.stream.width, self.stream.height

    def read(self, _: Any) -> Any:
        """The next packet; None while frames of the one before are waiting."""
        return None if self.waiting else self._packet()

    def decode(self, packet: Any) -> Any:
        """The next frame. Frames that are coded by later ones need more packets, at the clip's ends, which count here."""
        for _ in range(MOST_PACKETS):
            if packet is not None:
                self.waiting.extend(self._decoded(packet))
            if self.waiting:
                return self.waiting.popleft()
            packet = self._packet()
        raise UsageError(f"{self.path} has no frame that can be decoded in {MOST_PACKETS} packets.")

    def picture(self, frame: Any, smaller: ImageContract | None) -> Image.Image:
        """A frame in RGB as it is shown, or no larger than the network needs: the scaler reads YUV, half as many bytes."""
        size = {}
        if smaller is not None:
            is_turned = frame.rotation % 180 != 0
            stored = (frame.width, frame.height)
            spare = 1 / CROPPED if isinstance(smaller.output, Logits) else 1.0
            least = enough(stored[::-1] if is_turned else stored, smaller, spare)
            size = dict(zip(("width", "height"), least[::-1] if is_turned else least))
        coloured = self.scaler.reformat(frame, format="rgb24", **size)
        picture = Image.fromarray(coloured.to_ndarray())  # `to_image` copies line by line in Python
        return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture

    def _packet(self) -> Any:
        packet = next(self.packets, None)
        if packet is None:
            self.container.seek(0)
            self.packets = self.container.demux(self.stream)
            packet = next(self.packets, None)
        return packet

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except (pyav().FFmpegError, OSError) as error:
            raise UsageError(f"{self.path} cannot be decoded: {first_line(error)}.") from error


class Encoder:
    """Of frames that follow each other, of one caller."""

    def __init__(self, rate: Fraction, threads: int) -> None:
        self.av = pyav()
        self.codec = next(name for name in CODECS if name in self.av.codecs_available)
        self.rate, self.threads = rate, threads
        self.context: Any = None
        self.count = 0

    def coloured(self, pixels: Pixels) -> list[Any]:
        """T H W 3 to frames as encoders take them, of even sides."""
        height, width = (side // 2 * 2 for side in pixels.shape[1:3])
        return [
            self.av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                width=width, height=height, format="yuv420p"
            )
            for frame in pixels
        ]

    def encoded(self, frames: list[Any]) -> int:
        """Bytes."""
        if self.context is None:
            self.context = self.av.CodecContext.create(self.codec, "w")
            self.context.width, self.context.height = frames[0].width, frames[0].height
            self.context.pix_fmt, self.context.options = "yuv420p", CODECS[self.codec]
            self.context.time_base, self.context.framerate = 1 / self.rate, self.rate
            self.context.thread_count = self.threads
        written = 0
        for frame in frames:
            frame.pts, frame.time_base = self.count, 1 / self.rate
            self.count += 1
            written += sum(packet.size for packet in self.context.encode(frame))
        return written
