"""Messages on a connection between a head and the server of its tail; docs/split-serving.md.

Each is its length (4 bytes, little-endian, of all that follows), one byte of its kind, and a body.
The server speaks first. Bodies are packed here and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

from edgekit.errors import first_line

Array = npt.NDArray[np.generic]
PROTOCOL = 1
LENGTH = struct.Struct("<I")
GREETING = struct.Struct("<BB16sB4sI")
NEEDS_TOKEN = 1
NONCE_BYTES = 16
PROOF_BYTES = 32
PROOF_PREFIX = b"edgekit split 1\n"
PROOF_MESSAGE_BYTES = 1 + PROOF_BYTES
TIMES = struct.Struct("<I3f")
LONGEST_SENTENCE = 2000
CHUNK = 1 << 16


class Kind(IntEnum):
    GREETING = 1
    PROOF = 2
    PACKET = 3
    ANSWER = 4
    REFUSAL = 5


class Reason(IntEnum):
    """Why the server refused; after `PACKET` and `FAILED` the connection goes on."""

    PACKET = 1
    """It is damaged, of another head, or has nothing that can be used."""
    BUSY = 2
    TOKEN = 3
    SLOW = 4
    PROTOCOL = 5
    """Too long, or no message of this protocol."""
    FAILED = 6
    """The tail did not compute."""
    IDLE = 7
    """Nothing was sent for long."""


class Ending(Enum):
    WHOLE = "whole"
    CUT = "cut"
    """The sender closed its side within the message."""
    LATE = "late"
    """Time was over."""


class WireError(Exception):
    """What ends a conversation; the server sends it as its refusal."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Message:
    kind: int
    body: bytes
    ending: Ending = Ending.WHOLE


@dataclass(frozen=True)
class Greeting:
    """Who serves, and what it takes: a head of other tables need not send anything."""

    nonce: bytes
    needs_token: bool
    codec: int
    digest: bytes
    """The first four bytes."""
    most_bytes: int
    """Of a packet."""

    def pack(self) -> bytes:
        flags = NEEDS_TOKEN if self.needs_token else 0
        return GREETING.pack(PROTOCOL, flags, self.nonce, self.codec, self.digest, self.most_bytes)

    @classmethod
    def unpack(cls, body: bytes) -> Greeting:
        """Raises WireError."""
        if body[:1] != bytes([PROTOCOL]) or len(body) != GREETING.size:
            raise WireError(
                Reason.PROTOCOL,
                f"What answers there is no server of edgekit's protocol {PROTOCOL}.",
            )
        _, flags, nonce, codec, digest, most_bytes = GREETING.unpack(body)
        return cls(nonce, bool(flags & NEEDS_TOKEN), codec, digest, most_bytes)


@dataclass(frozen=True)
class Answer:
    """What the tail made of a packet, and of how much of it."""

    outputs: Mapping[str, Array]
    channels: int
    """That arrived and were used."""
    wait_ms: float
    """Until the tail was free."""
    decode_ms: float
    tail_ms: float

    def pack(self) -> bytes:
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(value) for name, value in self.outputs.items()}
        times = TIMES.pack(self.channels, self.wait_ms, self.decode_ms, self.tail_ms)
        return times + bytes(save(tensors))

    @classmethod
    def unpack(cls, body: bytes) -> Answer:
        """Raises WireError."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        if len(body) < TIMES.size:
            raise WireError(Reason.PROTOCOL, "The server's answer ends within its first numbers.")
        try:
            outputs = load(body[TIMES.size :])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise WireError(
                Reason.PROTOCOL, f"The server's answer cannot be read: {first_line(error)}."
            ) from error
        return cls(outputs, *TIMES.unpack_from(body))


def pack_refusal(reason: Reason, sentence: str) -> bytes:
    return bytes([reason]) + sentence.encode()[:LONGEST_SENTENCE]


def unpack_refusal(body: bytes) -> WireError:
    reason = body[0] if body else 0
    known = Reason(reason) if reason in Reason._value2member_map_ else Reason.PROTOCOL
    sentence = body[1 : 1 + LONGEST_SENTENCE].decode("utf-8", "replace")
    # Of another machine: it must not move the cursor of a terminal.
    printable = "".join(letter if letter.isprintable() else " " for letter in sentence)
    return WireError(known, printable or "The server refused and does not say why.")


def proof(token: str, nonce: bytes) -> bytes:
    """That the sender knows the token, which never travels itself."""
    return hmac.digest(token.encode(), PROOF_PREFIX + nonce, hashlib.sha256)


def framed(kind: Kind, body: bytes) -> bytes:
    return LENGTH.pack(1 + len(body)) + bytes([kind]) + body


async def receive(
    reader: asyncio.StreamReader, most_bytes: int, idle_seconds: float, seconds: float
) -> Message | None:
    """The next message; None if the other side closed before it.

    `idle_seconds` is for its first byte to come, `seconds` for all others then. Of a message that ends
    early, what arrived. Nothing is allocated for bytes that are only announced.

    Raises WireError for one that is too long, and for no byte in time.
    """
    try:
        async with asyncio.timeout(idle_seconds):
            gathered = bytearray(await reader.read(1))
    except TimeoutError:
        raise WireError(
            Reason.IDLE, f"Nothing came for {idle_seconds:g} seconds; connect again to go on."
        ) from None
    if not gathered:
        return None
    ending = Ending.CUT
    length = 0
    try:
        async with asyncio.timeout(seconds):
            if await _gather(reader, gathered, LENGTH.size):
                (length,) = LENGTH.unpack(gathered)
                if not 1 <= length <= most_bytes:
                    raise WireError(
                        Reason.PROTOCOL,
                        f"A message of {length} bytes was announced; 1 to {most_bytes} are accepted.",
                    )
                if await _gather(reader, gathered, LENGTH.size + length):
                    ending = Ending.WHOLE
    except TimeoutError:
        ending = Ending.LATE
    if len(gathered) <= LENGTH.size:
        how = f"after {seconds:g} seconds" if ending is Ending.LATE else "by its sender"
        reason = Reason.SLOW if ending is Ending.LATE else Reason.PROTOCOL
        raise WireError(reason, f"A message was ended {how} before its kind was known.")
    kind = gathered[LENGTH.size]
    return Message(kind, bytes(gathered[LENGTH.size + 1 :]), ending)


async def _gather(reader: asyncio.StreamReader, gathered: bytearray, size: int) -> bool:
    """Whether as many bytes came before the other side closed."""
    while len(gathered) < size:
        chunk = await reader.read(min(size - len(gathered), CHUNK))
        if not chunk:
            return False
        gathered += chunk
    return True
