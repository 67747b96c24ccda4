"""A packet: what a head sends of one image, with all that its reader must know to trust it.

    2  magic ee 4b                      1  version              1  codec, and 80 with a placement
    4  first bytes of the codec's hash
    n  channels, height, width, payload bytes                   (LEB128, 1 to 5 bytes each)
    n  placement: source height and width, top, left, height, width           (LEB128; top and left
       zigzag, as they may be negative)
    4  CRC-32 of the payload            4  CRC-32 of all before
       payload

Numbers are little-endian. Without a placement a header takes about 21 bytes, with one about 31. A
packet that was cut inside its payload is still read: to the channels that arrived. Its bytes cannot
be checked against the CRC then, so a link that may damage bytes, and not only lose the last ones,
must guard them itself (TCP and TLS do).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from edgekit.errors import PacketError, UsageError
from edgekit.split.codec import Array, Codec, Sizes

MAGIC = b"\xeeK"
VERSION = 1
PLACED = 0x80
HASH_BYTES = 4
CHECKSUM = struct.Struct("<I")
LARGEST_NUMBER = (1 << 32) - 1
FEWEST_BYTES = 20


@dataclass(frozen=True)
class Limits:
    """What a reader takes from strangers; a packet beyond it is refused before it costs anything."""

    symbols: int = 1 << 22
    """Of all channels of the head, sent or not: the tail's input has them all."""
    payload_bytes: int = 1 << 24


@dataclass(frozen=True)
class Placement:
    """Where the picture lies in the network's input, in pixels of the input.

    The picture of `source_height` x `source_width` was resized to `height` x `width` and put at
    `top`, `left`: above 0 where a border was added, below 0 where the middle was cut out.
    """

    source_height: int
    source_width: int
    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        sizes = (self.source_height, self.source_width, self.height, self.width)
        if min(sizes) < 1 or max(sizes) >= 1 << 31 or max(abs(self.top), abs(self.left)) >= 1 << 31:
            raise UsageError(
                f"A picture of {sizes[0]}x{sizes[1]} cannot be placed as {sizes[2]}x{sizes[3]} at "
                f"{self.top}, {self.left}: sizes start at 1 and end at 31 bits."
            )

    def to_source(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Boxes N 4 (left, top, right, bottom) of the input as boxes of the picture, inside it."""
        start = np.array([self.left, self.top] * 2, np.float64)
        scale = np.array([self.source_width / self.width, self.source_height / self.height] * 2)
        edge = np.array([self.source_width, self.source_height] * 2)
        inside: npt.NDArray[np.float64] = np.clip((boxes - start) * scale, 0, edge)
        return inside


@dataclass(frozen=True)
class Header:
    codec: int
    digest: bytes
    """The first four bytes of the codec's."""
    sizes: Sizes
    placement: Placement | None
    payload_bytes: int
    payload_crc: int

    def pack(self) -> bytes:
        sizes = self.sizes
        numbers = [sizes.channels, sizes.height, sizes.width, self.payload_bytes]
        if self.placement is not None:
            numbers += _placed_numbers(self.placement)
        flags = self.codec | (PLACED if self.placement is not None else 0)
        start = MAGIC + bytes([VERSION, flags]) + self.digest + b"".join(map(_leb128, numbers))
        start += CHECKSUM.pack(self.payload_crc)
        return start + CHECKSUM.pack(zlib.crc32(start))


@dataclass(frozen=True)
class Arrived:
    """What a packet brought: `values` C H W for the tail, of which the first `channels` are real."""

    values: npt.NDArray[np.float32]
    channels: int
    header: Header

    @property
    def is_whole(self) -> bool:
        return self.channels == self.header.sizes.channels


def write_packet(
    codec: Codec, bottleneck: Array, keep: int | None = None, placement: Placement | None = None
) -> bytes:
    """The packet of one image's bottleneck C H W, of its first `keep` channels or of all.

    Raises UsageError if the codec cannot code them.
    """
    keep = codec.channels if keep is None else keep
    payload = codec.encode(bottleneck, keep)
    sizes = Sizes(keep, *bottleneck.shape[1:])
    crc = zlib.crc32(payload)
    header = Header(codec.number, codec.digest[:HASH_BYTES], sizes, placement, len(payload), crc)
    return header.pack() + payload


def read_packet(codec: Codec, data: bytes, limits: Limits | None = None) -> Arrived:
    """What arrived of a packet that was sent whole or whose end was lost.

    Raises PacketError for one that is damaged, made for another head, beyond the limits, or that
    ends within its header.
    """
    limits = limits or Limits()
    header, start = read_header(data, limits)
    if header.codec != codec.number or header.digest != codec.digest[:HASH_BYTES]:
        raise PacketError(
            f"The packet is of another head: coding {header.codec} with tables "
            f"{header.digest.hex()}, not {codec.number} with {codec.digest[:HASH_BYTES].hex()}; "
            "export head and tail together."
        )
    if header.sizes.channels > codec.channels:
        raise PacketError(
            f"The packet has {header.sizes.channels} channels; the head sends {codec.channels} at most."
        )
    brought = Sizes(codec.channels, header.sizes.height, header.sizes.width)
    if brought.symbols > limits.symbols:
        raise PacketError(
            f"The packet would fill {codec.channels} channels of {brought.height}x{brought.width}; "
            f"up to {limits.symbols} values are accepted."
        )
    payload = data[start:]
    if len(payload) > header.payload_bytes:
        raise PacketError(
            f"The packet has {len(payload)} bytes after its header, which announces {header.payload_bytes}."
        )
    whole = len(payload) == header.payload_bytes
    if whole and zlib.crc32(payload) != header.payload_crc:
        raise PacketError("The packet was damaged on its way: its checksum does not match.")
    received = codec.decode(payload, header.sizes, whole)
    return Arrived(received.values, received.channels, header)


def read_header(data: bytes, limits: Limits) -> tuple[Header, int]:
    """The header and how many bytes it takes. Raises PacketError as `read_packet` does."""
    if data[:2] != MAGIC[: len(data)]:
        raise PacketError("These bytes are no packet of edgekit: they start with something else.")
    if len(data) < FEWEST_BYTES:
        raise PacketError(f"The packet ends within its header, after {len(data)} bytes.")
    if data[2] != VERSION:
        raise PacketError(
            f"The packet has version {data[2]}; this edgekit reads version {VERSION}."
        )
    numbers = _Numbers(data, 4 + HASH_BYTES)
    sizes = Sizes(*(numbers.take() for _ in range(3)))
    payload_bytes = numbers.take()
    placed = [numbers.take() for _ in range(6)] if data[3] & PLACED else None
    end = numbers.at + 2 * CHECKSUM.size
    if end > len(data):
        raise PacketError(f"The packet ends within its header, after {len(data)} bytes.")
    payload_crc, header_crc = struct.unpack_from("<2I", data, numbers.at)
    if header_crc != zlib.crc32(data[: end - CHECKSUM.size]):
        raise PacketError(
            "The packet's header was damaged on its way: its checksum does not match."
        )
    if not sizes.symbols or sizes.symbols > limits.symbols or payload_bytes > limits.payload_bytes:
        raise PacketError(
            f"The packet announces {sizes.channels} channels of {sizes.height}x{sizes.width} in "
            f"{payload_bytes} bytes; 1 to {limits.symbols} symbols in up to "
            f"{limits.payload_bytes} bytes are accepted."
        )
    header = Header(
        data[3] & ~PLACED, data[4 : 4 + HASH_BYTES], sizes,
        None if placed is None else _placement(placed), payload_bytes, payload_crc,
    )  # fmt: skip
    return header, end


def _placed_numbers(placement: Placement) -> list[int]:
    height, width, top, left, *size = astuple(placement)
    return [height, width, *(2 * n if n >= 0 else -2 * n - 1 for n in (top, left)), *size]


def _placement(numbers: list[int]) -> Placement:
    height, width, top, left, *size = numbers
    start = (-(n >> 1) - 1 if n & 1 else n >> 1 for n in (top, left))
    try:
        return Placement(height, width, *start, *size)
    except UsageError as error:
        raise PacketError(f"The packet's placement means nothing. {error}") from error


def _leb128(number: int) -> bytes:
    if not 0 <= number <= LARGEST_NUMBER:
        raise UsageError(f"A packet cannot carry the number {number}: it has no 32 bits.")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class _Numbers:
    """Reads LEB128 numbers one after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self) -> int:
        number = 0
        for shift in range(0, 35, 7):
            if self.at == len(self.data):
                raise PacketError(f"The packet ends within its header, after {self.at} bytes.")
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number > LARGEST_NUMBER:
                    break
                return number
        raise PacketError("The packet's header is damaged: a number in it has over 32 bits.")
