"""The server of a tail: packets in, answers out, over TCP or TLS, for many clients at once.

Each connection reads a packet only after it has answered the one before, so what a client can make
the server hold is one message and one answer. Packets of all connections are decoded and run one after
another on one thread, beside the event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgekit.errors import EdgekitError, MissingEnvironmentError, PacketError
from edgekit.split.codec import Codec, Sizes
from edgekit.split.messages import (
    CHUNK,
    NONCE_BYTES,
    PROOF_MESSAGE_BYTES,
    Answer,
    Array,
    Ending,
    Greeting,
    Kind,
    Message,
    Reason,
    WireError,
    framed,
    pack_refusal,
    proof,
    receive,
)
from edgekit.split.packet import HASH_BYTES, Limits, read_packet

LONGEST_HEADER = 64
BYTES_PER_SYMBOL = 4
"""An escape takes more, a head that sends many of them is not worth running."""
LINGER_BYTES = 1 << 20
MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Tail:
    """What a server runs on a bottleneck."""

    codec: Codec
    sizes: Sizes
    """Of the bottleneck that `run` takes, all channels."""
    run: Callable[[npt.NDArray[np.float32]], Mapping[str, Array]]
    """Of values C H W, what the network gives, by name. Raises EdgekitError."""
    fewest_channels: int = 1
    """With which an answer means something."""

    @property
    def most_packet_bytes(self) -> int:
        return LONGEST_HEADER + BYTES_PER_SYMBOL * self.sizes.symbols

    def answer(self, packet: bytes, since: float) -> Answer:
        """Of a packet that may have been cut; waiting is counted from `since`, in seconds.

        Raises PacketError for one that cannot be used, EdgekitError for a tail that fails.
        """
        started = time.perf_counter()
        limits = Limits(self.sizes.symbols, self.most_packet_bytes)
        arrived = read_packet(self.codec, packet, limits)
        sent = arrived.header.sizes
        if (sent.height, sent.width) != (self.sizes.height, self.sizes.width):
            raise PacketError(
                f"The packet has channels of {sent.height}x{sent.width}; this tail takes "
                f"{self.sizes.height}x{self.sizes.width}: its head was exported at another size."
            )
        if arrived.channels < self.fewest_channels:
            raise PacketError(
                f"{arrived.channels} of {sent.channels} channels arrived; an answer needs "
                f"{self.fewest_channels} at least."
            )
        decoded = time.perf_counter()
        outputs = self.run(arrived.values)
        times = (started - since, decoded - started, time.perf_counter() - decoded)
        return Answer(outputs, arrived.channels, *(MILLISECONDS * part for part in times))


@dataclass(frozen=True)
class ServeOptions:
    token: str | None = None
    """Which clients must know."""
    tls: ssl.SSLContext | None = None
    connections: int = 64
    """At once; others are refused with a sentence."""
    idle_seconds: float = 60.0
    """Without a byte between two packets."""
    packet_seconds: float = 10.0
    """For all bytes of a packet to come; what has come then is answered, and nothing later."""
    answer_seconds: float = 10.0
    """For a client to take an answer."""
    grace_seconds: float = 5.0
    """For what is being computed to be answered, when the server is stopped."""
    linger_seconds: float = 1.0
    """For a refused client to read why: a socket closed on unread bytes would take the sentence back."""


@dataclass
class Counts:
    """Since the server started."""

    connections: int = 0
    turned_away: int = 0
    """Connections beyond the limit, and without the token."""
    answered: int = 0
    of_parts: int = 0
    """Of these, from packets that were cut or late."""
    refused: int = 0
    """Packets and other messages."""
    unread: int = 0
    """Answers that their clients did not take."""

    def to_json(self) -> dict[str, int]:
        return dict(vars(self))

    def sentence(self) -> str:
        return (
            f"{self.answered} packets answered ({self.of_parts} of them in part), {self.refused} refused, "
            f"{self.unread} answers not taken, {self.connections} connections, "
            f"{self.turned_away} turned away"
        )


@dataclass
class Server:
    """Started by `start`, ended by `stop`; both belong to one event loop."""

    tail: Tail
    options: ServeOptions = field(default_factory=ServeOptions)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "tail")
        self._open: set[asyncio.Task[None]] = set()
        self._computing: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Returns the port, which the system chooses for 0. Raises MissingEnvironmentError."""
        options = self.options
        handshake_seconds = options.packet_seconds if options.tls else None
        try:
            self._listening = await asyncio.start_server(
                self._welcome, host, port, ssl=options.tls, ssl_handshake_timeout=handshake_seconds
            )
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise MissingEnvironmentError(
                f"Nothing can listen on {host}:{port}: {why}; choose another --listen."
            ) from error
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """What is being computed is answered first, if it takes no longer than the grace."""
        if self._listening is not None:
            self._listening.close()
        for task in self._open - self._computing:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=self.options.grace_seconds)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None
        is_full = len(self._open) >= self.options.connections
        self.counts.connections += 1
        if not is_full:
            self._open.add(task)
        try:
            if is_full:
                self.counts.turned_away += 1
                full = (
                    f"The server has {self.options.connections} connections and takes no more now."
                )
                await self._refuse(writer, Reason.BUSY, full)
            else:
                await self._converse(reader, writer, task)
                await self._linger(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client went away, or the server is stopped
        finally:
            writer.close()
            # What is left to send goes first; a silent client does not hold it for ever.
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(self.options.answer_seconds):
                    await writer.wait_closed()
            writer.transport.abort()
            self._open.discard(task)

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        """Ends with a refusal, or when the client has sent all, or its last packet in part."""
        try:
            await self._answer_all(reader, writer, task)
        except WireError as error:
            self.counts.turned_away += error.reason is Reason.TOKEN
            self.counts.refused += error.reason in (Reason.PROTOCOL, Reason.SLOW)
            await self._refuse(writer, error.reason, str(error))

    async def _answer_all(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        options = self.options
        codec, most_bytes = self.tail.codec, self.tail.most_packet_bytes
        nonce = secrets.token_bytes(NONCE_BYTES)
        digest = codec.digest[:HASH_BYTES]
        greeting = Greeting(nonce, options.token is not None, codec.number, digest, most_bytes)
        await self._send(writer, Kind.GREETING, greeting.pack())
        if options.token is not None:
            await self._check_token(reader, options.token, nonce)
        while True:
            message = await receive(
                reader, 1 + most_bytes, options.idle_seconds, options.packet_seconds
            )
            if message is None:
                return
            if message.kind != Kind.PACKET:
                raise WireError(
                    Reason.PROTOCOL, f"A message of kind {message.kind} is nothing for a server."
                )
            self._computing.add(task)
            try:
                await self._reply(writer, message)
            finally:
                self._computing.discard(task)
            if message.ending is not Ending.WHOLE or not self._is_listening:
                return

    @property
    def _is_listening(self) -> bool:
        return self._listening is not None and self._listening.is_serving()

    async def _check_token(self, reader: asyncio.StreamReader, token: str, nonce: bytes) -> None:
        seconds = self.options.packet_seconds
        try:
            message = await receive(reader, PROOF_MESSAGE_BYTES, seconds, seconds)
        except WireError as error:
            if error.reason is not Reason.PROTOCOL:
                raise
            message = None  # a packet, say, which is longer
        given = message.body if message is not None and message.kind == Kind.PROOF else b""
        if not hmac.compare_digest(given, proof(token, nonce)):
            raise WireError(
                Reason.TOKEN, "The server has a token, and the client does not know the same one."
            )

    async def _reply(self, writer: asyncio.StreamWriter, message: Message) -> None:
        since = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            packed = await loop.run_in_executor(self._thread, self._packed, message.body, since)
        except EdgekitError as error:
            self.counts.refused += 1
            reason = Reason.PACKET if isinstance(error, PacketError) else Reason.FAILED
            sentence = str(error)
            if message.ending is Ending.LATE:
                seconds = self.options.packet_seconds
                reason = Reason.SLOW
                sentence = f"The packet did not come within {seconds:g} seconds. {sentence}"
            await self._refuse(writer, reason, sentence)
            return
        try:
            await self._send(writer, Kind.ANSWER, packed)
        except OSError:
            self.counts.unread += 1
            raise
        self.counts.answered += 1
        self.counts.of_parts += message.ending is not Ending.WHOLE

    def _packed(self, packet: bytes, since: float) -> bytes:
        return self.tail.answer(packet, since).pack()

    async def _refuse(self, writer: asyncio.StreamWriter, reason: Reason, sentence: str) -> None:
        await self._send(writer, Kind.REFUSAL, pack_refusal(reason, sentence))

    async def _send(self, writer: asyncio.StreamWriter, kind: Kind, body: bytes) -> None:
        """Raises OSError if the client does not take it in time."""
        writer.write(framed(kind, body))
        try:
            async with asyncio.timeout(self.options.answer_seconds):
                await writer.drain()
        except TimeoutError:
            writer.transport.abort()
            raise ConnectionAbortedError from None

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read to the end, so that the client can read to the end, too."""
        if writer.can_write_eof():
            writer.write_eof()
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.linger_seconds):
                while left > 0 and (chunk := await reader.read(CHUNK)):
                    left -= len(chunk)
