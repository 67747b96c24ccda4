"""The client of a tail's server: packets over one connection, answers in their order."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from edgekit.errors import EdgekitError, LinkError, PacketError, UsageError
from edgekit.split.codec import Codec
from edgekit.split.messages import (
    Answer,
    Ending,
    Greeting,
    Kind,
    Message,
    Reason,
    WireError,
    framed,
    proof,
    receive,
    unpack_refusal,
)
from edgekit.split.packet import HASH_BYTES

MOST_ANSWER_BYTES = 1 << 28
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """HOST:PORT, or [HOST]:PORT of IPv6. Raises UsageError."""
        host, _, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        is_number = port.isascii() and port.isdigit() and int(port) <= HIGHEST_PORT
        if not bare or not is_number or (":" in bare and bare == host):
            raise UsageError(f"The address '{text}' is not HOST:PORT, such as 127.0.0.1:7411.")
        return cls(bare, int(port))


@dataclass(frozen=True)
class LinkOptions:
    token: str | None = None
    tls: ssl.SSLContext | None = None
    connect_seconds: float = 5.0
    answer_seconds: float = 30.0
    """From a packet's last byte to its answer's; also for the packet to leave."""


@dataclass
class Client:
    """Open until `close`; `connect` makes it."""

    address: Address
    options: LinkOptions
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)

    @classmethod
    async def connect(
        cls, address: Address, codec: Codec, options: LinkOptions = LinkOptions()
    ) -> Client:
        """Raises:
        LinkError: the server cannot be reached, or has no time.
        PacketError: it serves another head's tail.
        UsageError: it asks for a token, and none or another was given.
        """
        try:
            async with asyncio.timeout(options.connect_seconds):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=options.tls
                )
        except TimeoutError:
            raise LinkError(
                f"{address} did not answer within {options.connect_seconds:g} seconds."
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise UsageError(
                f"The certificate of {address} is not trusted: {error.verify_message}; give the one that "
                "signed it with --ca."
            ) from error
        except (OSError, UnicodeError) as error:
            raise LinkError(f"{address} cannot be reached: {_reason(error)}.") from error
        client = cls(address, options, reader, writer)
        try:
            await client._greet(codec)
        except BaseException:
            await client.close()
            raise
        return client

    async def _greet(self, codec: Codec) -> None:
        message = await self._next(self.options.connect_seconds)
        if message.kind != Kind.GREETING:
            raise LinkError(f"What answers at {self.address} is no server of edgekit.")
        try:
            greeting = Greeting.unpack(message.body)
        except WireError as error:
            raise LinkError(str(error)) from error
        if (greeting.codec, greeting.digest) != (codec.number, codec.digest[:HASH_BYTES]):
            raise PacketError(
                f"{self.address} serves the tail of another head (tables {greeting.digest.hex()}, this one's "
                f"are {codec.digest[:HASH_BYTES].hex()}); use the bundle that is served there."
            )
        if greeting.needs_token:
            if self.options.token is None:
                raise UsageError(f"{self.address} asks for a token; give --token-file FILE.")
            await self._send(Kind.PROOF, proof(self.options.token, greeting.nonce))

    async def ask(self, packet: bytes) -> Answer:
        """Raises:
        LinkError: the link dropped, or the server has no time or cannot compute.
        PacketError: it refuses the packet; the connection can be used further.
        UsageError: it refuses the token.
        """
        await self._send(Kind.PACKET, packet)
        message = await self._next(self.options.answer_seconds)
        if message.kind != Kind.ANSWER:
            raise LinkError(f"{self.address} answered with a message of kind {message.kind}.")
        try:
            return Answer.unpack(message.body)
        except WireError as error:
            raise LinkError(str(error)) from error

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(1):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            self.writer.transport.abort()

    async def _send(self, kind: Kind, body: bytes) -> None:
        try:
            async with asyncio.timeout(self.options.answer_seconds):
                self.writer.write(framed(kind, body))
                await self.writer.drain()
        except TimeoutError:
            raise LinkError(
                f"{self.address} did not take {len(body)} bytes within "
                f"{self.options.answer_seconds:g} seconds."
            ) from None
        except OSError:
            pass  # the server's last words, if there are any, say why

    async def _next(self, seconds: float) -> Message:
        """A whole message that is no refusal."""
        try:
            message = await receive(self.reader, MOST_ANSWER_BYTES, seconds, seconds)
        except WireError as error:
            if error.reason is Reason.IDLE:
                raise LinkError(
                    f"{self.address} gave no answer within {seconds:g} seconds."
                ) from error
            raise LinkError(f"The link to {self.address} broke: {error}") from error
        except OSError as error:
            raise LinkError(f"The link to {self.address} broke: {_reason(error)}.") from error
        if message is None:
            raise LinkError(f"{self.address} closed the connection.")
        if message.ending is not Ending.WHOLE:
            raise LinkError(f"The link to {self.address} broke within an answer.")
        if message.kind == Kind.REFUSAL:
            raise _refused(self.address, unpack_refusal(message.body))
        return message


async def ask_once(
    address: Address, codec: Codec, packet: bytes, options: LinkOptions = LinkOptions()
) -> Answer:
    """Connect, send one packet, take its answer. Raises as `Client.connect` and `Client.ask` do."""
    client = await Client.connect(address, codec, options)
    try:
        return await client.ask(packet)
    finally:
        await client.close()


def _refused(address: Address, error: WireError) -> EdgekitError:
    said = f"{address} refused: {error}"
    if error.reason is Reason.TOKEN:
        return UsageError(said)
    return (
        PacketError(said) if error.reason in (Reason.PACKET, Reason.PROTOCOL) else LinkError(said)
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")
