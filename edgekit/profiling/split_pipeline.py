"""A network cut in two, from its input to its outputs: the head, its packet, and the tail at a server or here."""

from __future__ import annotations

import asyncio
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekit.backends.runnable import Array
from edgekit.detection.picture_file import read_picture
from edgekit.errors import LinkError
from edgekit.plan.choose import in_units
from edgekit.profiling.opened import Opened, Sessions
from edgekit.profiling.pipeline import HEAD, Step, Steps, Told, contract_of
from edgekit.split.bundle import SplitBundle
from edgekit.split.client import Address, Client, LinkOptions
from edgekit.split.messages import Answer
from edgekit.split.packet import Placement, write_packet
from edgekit.split.picture import seen

ENCODE, TRANSFER, WAIT, DECODE, TAIL = (
    "encode packet", "transfer", "wait at the server", "decode packet", "tail",
)  # fmt: skip
JPEG_QUALITY = 90
"""Of the picture that would be sent in a packet's place."""


@dataclass(frozen=True)
class Sending:
    """What becomes of a head's output."""

    server: Address | None = None
    """None: the tail runs here."""
    link: LinkOptions = field(default_factory=LinkOptions)
    keep: int | None = None
    """Channels that are sent; None: all."""


HERE = Sending()
"""Head and tail on this machine."""


@dataclass(frozen=True)
class Sent:
    """How many bytes a packet takes, and what they stand for."""

    packet_bytes: int
    jpeg_bytes: int | None
    """Of the picture in the network's size, at `JPEG_QUALITY`; None of a video."""
    server: str | None
    has_exit: bool
    """Whether the head has an early exit, which could make the packet needless."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "jpeg_quality": JPEG_QUALITY}

    def remarks(self, file_bytes: int) -> list[str]:
        told = f"the packet has {in_units(self.packet_bytes)}"
        if self.jpeg_bytes is not None:
            told += (
                f"; the picture's file has {in_units(file_bytes)}, and as a JPEG of quality {JPEG_QUALITY} in the "
                f"network's size {in_units(self.jpeg_bytes)}"
            )
        if self.server is None:
            way = "head and tail both ran here, and nothing was transferred: --to measures the way to a server"
        else:
            way = (
                f"{self.server} told how long packets waited there and how long it took for them; "
                f"'{TRANSFER}' is the rest of a request"
            )
        left = (
            "the head's early exit was not asked: every picture was coded" if self.has_exit else ""
        )
        return [told, way, *filter(None, [left])]


class HeadAndTail:
    """As `edgekit.profiling.pipeline.Network`. Connections stay open until `close`."""

    def __init__(
        self, opened: Opened, sending: Sending, threads: int, picture: Path | None
    ) -> None:
        """`picture` is the file that all packets are of, if they are of one. Raises UsageError."""
        self.bundle, self.file, self.sending = opened.bundle, opened.runnable, sending
        self.split = SplitBundle(opened.bundle, Sessions(threads).load)
        contract = contract_of(opened.bundle)
        self.seen = seen(read_picture(picture), contract) if picture is not None else None
        self.lines: list[Line] = []

    def opened(self) -> Steps:
        """Raises LinkError, PacketError or UsageError, as `Client.connect` does."""
        head = (Step(HEAD, self.bottleneck), Step(ENCODE, self.packet))
        if self.sending.server is None:
            arrived = Step(DECODE, lambda packet: self.split.arrived(packet).values)
            return (*head, arrived, Step(TAIL, self.split.outputs))
        line = Line(self.split, self.sending.server, self.sending.link)
        self.lines.append(line)
        return (*head, Step(TRANSFER, line.ask, told=(WAIT, DECODE, TAIL)))

    def bottleneck(self, value: Array) -> Array:
        (image,) = self.bundle.inputs
        return self.split.bottleneck_of(self.file.run({image.name: value}))

    def packet(self, bottleneck: Array) -> bytes:
        return write_packet(self.split.codec, bottleneck, self.sending.keep, self._placement)

    @property
    def _placement(self) -> Placement | None:
        return self.seen.placement if self.seen is not None else None

    def sent(self, value: Array) -> Sent:
        """Of an input of the network."""
        return Sent(
            len(self.packet(self.bottleneck(value))),
            _jpeg_bytes(self.seen.pixels) if self.seen is not None else None,
            str(self.sending.server) if self.sending.server is not None else None,
            self.split.facts.exit is not None,
        )

    def close(self) -> None:
        while self.lines:
            self.lines.pop().close()


class Line:
    """The connection of one caller, who waits for each answer."""

    def __init__(self, split: SplitBundle, server: Address, options: LinkOptions) -> None:
        """Raises as `Client.connect` does."""
        self.split = split
        self.loop = asyncio.new_event_loop()
        try:
            connecting = Client.connect(server, split.codec, options)
            self.client = self.loop.run_until_complete(connecting)
        except BaseException:
            self.loop.close()
            raise

    def ask(self, packet: bytes) -> Told:
        """Raises as `Client.ask` does, and LinkError for an answer that no such tail gives."""
        answer = self.loop.run_until_complete(self.client.ask(packet))
        self.split.require_answer(answer.outputs, str(self.client.address))
        return Told(answer.outputs, self._spent_ms(answer))

    def _spent_ms(self, answer: Answer) -> tuple[float, ...]:
        spent = (answer.wait_ms, answer.decode_ms, answer.tail_ms)
        if not all(0 <= ms < float("inf") for ms in spent):
            raise LinkError(f"{self.client.address} told times that cannot be: {spent}.")
        return spent

    def close(self) -> None:
        if (
            self.loop.is_running()
        ):  # its caller waits in another thread: the process is being interrupted
            return
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


def _jpeg_bytes(pixels: np.ndarray[Any, Any]) -> int:
    place = io.BytesIO()
    Image.fromarray(pixels).save(place, "JPEG", quality=JPEG_QUALITY)
    return len(place.getvalue())
