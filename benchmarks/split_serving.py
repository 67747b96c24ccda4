"""The server of a split's tail under 1000 good and hostile packets on 16 connections at once.

    python benchmarks/split_serving.py [--packets 1000] [--connections 16]

The server runs in a process of its own, whose resident memory is read before and after; the tail is one
matrix product over 24x28x28 values. Half of the packets are good, of all channels or of some. The others
are damaged, of another head, of another size, longer than the server takes, noise, cut by their sender, or
left hanging until time is over. Each must get what it deserves: a good one the right answer, one that
ended early the answer of the channels that arrived, any other a refusal with a sentence; where the protocol
ends the connection, the client opens another. What got something else, or nothing, is counted as lost.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.split.client import Address, Client
from edgekit.split.codec import EntropyCodec, Sizes
from edgekit.split.messages import LENGTH, Answer, Ending, Kind, framed, receive, unpack_refusal
from edgekit.split.packet import write_packet
from edgekit.split.quantised_cdf import quantised_cdf
from edgekit.split.server import ServeOptions, Server, Tail
from edgekit.split.tables import Tables

SIZES = Sizes(24, 28, 28)
CLASSES = 100
PACKET_SECONDS = 0.5
BAD = (
    "damaged", "another head", "another size", "too long", "noise", "unknown kind", "cut", "hanging",
    "gone",
)  # fmt: skip
ENDS_THE_CONNECTION = ("too long", "noise", "unknown kind", "cut", "hanging", "gone")


def codec(offset: int = 0) -> EntropyCodec:
    mass = np.exp(-np.abs(np.arange(-20, 21)) / 2.0)
    row = tuple(quantised_cdf([*(mass / mass.sum() * (1 - 1e-5)), 1e-5])[:-1])
    channels = SIZES.channels
    return EntropyCodec(Tables((0.0,) * channels, (offset - 20,) * channels, (row,) * channels))


CODEC, OTHER = codec(), codec(1)
WEIGHTS = np.random.default_rng(0).normal(0, 0.01, (SIZES.symbols, CLASSES)).astype(np.float32)


def run(values: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"logits": values.reshape(1, -1) @ WEIGHTS}


def symbols(seed: int) -> np.ndarray:
    shape = (SIZES.channels, SIZES.height, SIZES.width)
    return np.rint(np.random.default_rng(seed).laplace(0, 2, shape)).astype(np.int32)


def expected(seed: int, channels: int) -> np.ndarray:
    values = symbols(seed).astype(np.float32)
    values[channels:] = 0
    return run(values)["logits"]


@dataclass
class Tally:
    got: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Connection:
    """Opened when it is needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.client: Client | None = None

    async def open(self) -> Client:
        if self.client is None:
            self.client = await Client.connect(self.address, CODEC)
        return self.client

    async def drop(self) -> None:
        if self.client is not None:
            await self.client.close()
            self.client = None


async def one(connection: Connection, kind: str, seed: int, tally: Tally) -> None:
    rng = random.Random(seed)
    client = await connection.open()
    keep = rng.choice([4, 12, 24])
    good = write_packet(CODEC, symbols(seed), keep)
    message = bytearray(framed(Kind.PACKET, good))
    cut = rng.randint(len(message) // 2, len(message) - 8)
    if kind == "damaged":
        message[LENGTH.size + 1 + rng.randrange(len(good))] ^= 1 << rng.randrange(8)
    elif kind == "another head":
        message = bytearray(framed(Kind.PACKET, write_packet(OTHER, symbols(seed), keep)))
    elif kind == "another size":
        message = bytearray(framed(Kind.PACKET, write_packet(CODEC, symbols(seed)[:, :27], keep)))
    elif kind == "too long":
        message[: LENGTH.size] = LENGTH.pack(rng.randint(1 << 20, (1 << 32) - 1))
    elif kind == "noise":
        message = bytearray(b"\xff" + rng.randbytes(200))
    elif kind == "unknown kind":
        message[LENGTH.size] = 9
    elif kind in ("cut", "hanging", "gone"):
        del message[cut:]
    started = time.perf_counter()
    client.writer.write(message)
    if kind == "gone":
        tally.got[kind, "nothing asked"] += 1
        client.writer.transport.abort()
        connection.client = None
        return
    if kind == "cut":
        client.writer.write_eof()
    reply = await receive(client.reader, 1 << 24, 10, 10)
    if reply is None or reply.ending is not Ending.WHOLE:
        tally.lost.append(f"{kind}: nothing came back")
    elif reply.kind == Kind.ANSWER:
        answer = Answer.unpack(reply.body)
        in_full = answer.channels == keep
        right = np.array_equal(answer.outputs["logits"], expected(seed, answer.channels))
        if not right or (kind == "good") != in_full or kind not in ("good", "cut", "hanging"):
            tally.lost.append(f"{kind}: {answer.channels} of {keep} channels, right: {right}")
        tally.got[kind, "answer" if in_full else "answer in part"] += 1
        if kind == "good":
            tally.seconds.append(time.perf_counter() - started)
    else:
        tally.got[kind, "refusal"] += 1
        if kind == "good" or not str(unpack_refusal(reply.body)).endswith("."):
            tally.lost.append(f"{kind}: {unpack_refusal(reply.body)}")
    if kind in ENDS_THE_CONNECTION:
        await connection.drop()


async def batch(address: Address, packets: int, connections: int, seed: int) -> Tally:
    rng = random.Random(seed)
    kinds = ["good" if number % 2 else rng.choice(BAD) for number in range(packets)]
    work = list(enumerate(kinds, start=seed))
    rng.shuffle(work)
    tally = Tally()

    async def worker() -> None:
        connection = Connection(address)
        while work:
            number, kind = work.pop()
            await one(connection, kind, number, tally)
        await connection.drop()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return tally


async def serve() -> None:
    options = ServeOptions(packet_seconds=PACKET_SECONDS, linger_seconds=0.2)
    server = Server(Tail(CODEC, SIZES, run), options)
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop()
    print(server.counts.sentence(), flush=True)


def resident_mib(process: int) -> float:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines()
    )
    return int(fields["VmRSS"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--packets", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--server", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.server:
        asyncio.run(serve())
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    address = Address("127.0.0.1", int(server.stdout.readline()))
    asyncio.run(batch(address, options.packets // 5, options.connections, 10**6))  # warm-up
    before = resident_mib(server.pid)
    started = time.perf_counter()
    tally = asyncio.run(batch(address, options.packets, options.connections, 0))
    seconds = time.perf_counter() - started
    after = resident_mib(server.pid)
    said = server.communicate("")[0].strip()
    for (kind, got), count in sorted(tally.got.items()):
        print(f"{kind:14} {got:16} {count}")
    times = sorted(1000 * value for value in tally.seconds)
    print(
        f"good packets: median {statistics.median(times):.1f} ms, 95 % within "
        f"{times[int(0.95 * len(times))]:.1f} ms; the whole batch took {seconds:.1f} s"
    )
    print(f"server, warm-up included: {said}")
    print(
        f"{sum(tally.got.values())} packets on {options.connections} connections, {len(tally.lost)} lost; "
        f"resident memory of the server {before:.1f} MiB before, {after:.1f} MiB after"
    )
    for line in tally.lost[:10]:
        print(f"lost: {line}")
    sys.exit(bool(tally.lost))


if __name__ == "__main__":
    main()
