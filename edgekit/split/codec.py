"""One image's bottleneck as the payload of a packet, channel after channel, and back.

All codecs give a correct prefix of channels for a payload that was cut; channels that did not
arrive are 0 in what the tail gets, as in training with dropped tails.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from edgekit.errors import PacketError, UsageError
from edgekit.split.coder import find_coder
from edgekit.split.quantise8 import Calibration, Codes, Range
from edgekit.split.stream import Coder, Ending
from edgekit.split.tables import INT32, Tables

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sizes:
    """What was sent: channels, and the height and width of each."""

    channels: int
    height: int
    width: int

    @property
    def plane(self) -> int:
        return self.height * self.width

    @property
    def symbols(self) -> int:
        return self.channels * self.plane


@dataclass(frozen=True)
class Received:
    """`values` C H W for the tail, the first `channels` of which arrived."""

    values: npt.NDArray[np.float32]
    channels: int


class Codec(Protocol):
    @property
    def number(self) -> int:
        """How a packet names this way of coding."""

    @property
    def digest(self) -> bytes:
        """Equal for head and tail, or they do not understand each other."""

    @property
    def channels(self) -> int: ...

    def encode(self, bottleneck: Array, keep: int) -> bytes:
        """The payload of the first `keep` channels of what the head gives for an image, C H W."""

    def decode(self, payload: bytes, sizes: Sizes, whole: bool) -> Received:
        """Raises PacketError if the payload is not one of these sizes, or `whole` and cut."""


@dataclass(frozen=True)
class EntropyCodec:
    """Integer symbols, whose tables decide how many bits they take."""

    number: ClassVar[int] = 1
    tables: Tables
    coder: Coder = field(default_factory=find_coder)

    @property
    def digest(self) -> bytes:
        return self.tables.digest

    @property
    def channels(self) -> int:
        return self.tables.channels

    def encode(self, bottleneck: Array, keep: int) -> bytes:
        kept = _kept(bottleneck, self.channels, keep)
        if kept.dtype.kind not in "iu":
            raise UsageError(
                f"An entropy coder takes whole-number symbols, not {kept.dtype}; "
                "let the head round them."
            )
        if kept.size and not (INT32.min <= kept.min() and kept.max() <= INT32.max):
            raise UsageError(
                f"Symbols between {kept.min()} and {kept.max()} do not fit into 32 bits."
            )
        symbols = np.ascontiguousarray(kept, np.int32).reshape(keep, -1)
        return self.coder.encode(self.tables, symbols)

    def decode(self, payload: bytes, sizes: Sizes, whole: bool) -> Received:
        decoded = self.coder.decode(self.tables, payload, sizes.channels, sizes.plane)
        _check_ending(decoded.ending, whole)
        arrived = decoded.symbols.size // sizes.plane
        symbols = decoded.symbols[: arrived * sizes.plane]
        planes = symbols.reshape(arrived, sizes.height, sizes.width)
        return Received(self.tables.values(planes), arrived)


@dataclass(frozen=True)
class CalibratedCodec:
    """Codes of fixed ranges, which the head gives already: one byte each."""

    number: ClassVar[int] = 2
    calibration: Calibration

    @property
    def digest(self) -> bytes:
        return self.calibration.digest

    @property
    def channels(self) -> int:
        return self.calibration.channels

    def encode(self, bottleneck: Array, keep: int) -> bytes:
        kept = _kept(bottleneck, self.channels, keep)
        if kept.dtype != np.uint8:
            raise UsageError(
                f"A calibrated head gives uint8 codes, not {kept.dtype}; "
                "quantise its values with the calibration first."
            )
        return kept.tobytes()

    def decode(self, payload: bytes, sizes: Sizes, whole: bool) -> Received:
        codes = _planes_of_codes(payload, sizes, whole)
        return _filled(self.calibration.dequantise(codes), self.channels)


@dataclass(frozen=True)
class DynamicCodec:
    """Values of any range, which travels with them: scale, zero point, then one byte each."""

    number: ClassVar[int] = 3
    channels: int
    head: str = ""
    """What tells heads of as many channels apart: a hash of the network that gives the values."""
    prefix: ClassVar[struct.Struct] = struct.Struct("<fB")

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise UsageError(f"A bottleneck has at least one channel, not {self.channels}.")

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(f"dynamic {self.channels} {self.head}\n".encode()).digest()

    def encode(self, bottleneck: Array, keep: int) -> bytes:
        kept = _kept(bottleneck, self.channels, keep)
        if kept.dtype.kind != "f":
            raise UsageError(
                f"The dynamic quantiser takes floating-point values, not {kept.dtype}."
            )
        chosen = Range.of(kept)
        return self.prefix.pack(chosen.scale, chosen.zero_point) + chosen.quantise(kept).tobytes()

    def decode(self, payload: bytes, sizes: Sizes, whole: bool) -> Received:
        if len(payload) < self.prefix.size and not whole:
            return _filled(np.zeros((0, sizes.height, sizes.width), np.float32), self.channels)
        codes = _planes_of_codes(payload[self.prefix.size :], sizes, whole)
        scale, zero_point = self.prefix.unpack_from(payload)
        if not (np.isfinite(scale) and scale > 0):
            raise PacketError(f"The packet has the scale {scale}, which no head sends.")
        return _filled(Range(np.float32(scale), zero_point).dequantise(codes), self.channels)


def _kept(bottleneck: Array, channels: int, keep: int) -> Array:
    if bottleneck.ndim != 3 or len(bottleneck) != channels or not bottleneck[0].size:
        raise UsageError(
            f"The head gave an array of shape {bottleneck.shape}; one image's bottleneck is "
            f"{channels} H W here."
        )
    if not 1 <= keep <= channels:
        raise UsageError(f"Of {channels} channels, 1 to {channels} can be kept, not {keep}.")
    return bottleneck[:keep]


def _check_ending(ending: Ending, whole: bool) -> None:
    if ending is Ending.DAMAGED or (whole and ending is not Ending.WHOLE):
        raise PacketError("The packet is damaged: its stream is none that these tables write.")


def _planes_of_codes(payload: bytes, sizes: Sizes, whole: bool) -> Codes:
    """Those that are complete."""
    if len(payload) > sizes.symbols or (whole and len(payload) != sizes.symbols):
        raise PacketError(
            f"The packet is damaged: {len(payload)} codes do not make {sizes.channels} channels "
            f"of {sizes.height}x{sizes.width}."
        )
    arrived = len(payload) // sizes.plane
    codes = np.frombuffer(payload, np.uint8, arrived * sizes.plane)
    return codes.reshape(arrived, sizes.height, sizes.width)


def _filled(values: npt.NDArray[np.float32], channels: int) -> Received:
    out = np.zeros((channels, *values.shape[1:]), np.float32)
    out[: len(values)] = values
    return Received(out, len(values))
