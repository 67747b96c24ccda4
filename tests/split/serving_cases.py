"""A tail that needs no network, packets for it, and raw bytes on a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
from coding_cases import golden_tables

from edgekit.errors import UsageError
from edgekit.split.client import Address
from edgekit.split.codec import EntropyCodec, Sizes
from edgekit.split.messages import Array, Kind, Message, framed, receive
from edgekit.split.packet import write_packet
from edgekit.split.server import ServeOptions, Server, Tail

CODEC = EntropyCodec(golden_tables("narrow").pick(range(5)))
SIZES = Sizes(5, 4, 6)
POISON = 1000
"""A symbol on which the tail fails."""
SLEEP = 2000
"""A symbol on which it takes a while."""


def run(values: np.ndarray) -> Mapping[str, Array]:
    highest = values.max()
    if highest >= SLEEP:
        time.sleep(0.3)
    elif highest >= POISON:
        raise UsageError("tail.onnx cannot compute with this input: poison.")
    return {"sums": values.sum((1, 2))[None], "count": np.array([np.count_nonzero(values)])}


TAIL = Tail(CODEC, SIZES, run)
OPTIONS = ServeOptions(idle_seconds=5, packet_seconds=0.5, answer_seconds=2, linger_seconds=0.3)


def symbols(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, (5, 4, 6))


def packet(seed: int, keep: int = 5) -> bytes:
    return write_packet(CODEC, symbols(seed), keep)


def expected(seed: int, channels: int = 5) -> np.ndarray:
    """The sums of what arrives."""
    kept = symbols(seed)
    kept[channels:] = 0
    values = np.zeros(SIZES.symbols, np.float32).reshape(5, 4, 6)
    values[:channels] = CODEC.tables.values(kept[:channels])[:channels]
    return values.sum((1, 2))[None]


@asynccontextmanager
async def serving(tail: Tail = TAIL, **options: object) -> AsyncIterator[tuple[Server, Address]]:
    server = Server(tail, replace(OPTIONS, **options))
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, Address("127.0.0.1", port)
    finally:
        await server.stop()


@dataclass
class Raw:
    """A connection that sends what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def packet(self, data: bytes) -> None:
        await self.send(framed(Kind.PACKET, data))

    async def next(self, seconds: float = 5) -> Message | None:
        return await receive(self.reader, 1 << 20, seconds, seconds)


@asynccontextmanager
async def raw(address: Address) -> AsyncIterator[Raw]:
    """After the greeting."""
    connection = Raw(*await asyncio.open_connection(address.host, address.port))
    try:
        greeting = await connection.next()
        assert greeting is not None
        assert greeting.kind == Kind.GREETING
        yield connection
    finally:
        connection.writer.transport.abort()
