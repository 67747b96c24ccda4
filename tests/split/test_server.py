"""The server of a tail against clients that are right, wrong, slow, gone and many."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from serving_cases import (
    CODEC,
    POISON,
    SLEEP,
    TAIL,
    Raw,
    expected,
    packet,
    raw,
    serving,
    symbols,
)

from edgekit.errors import LinkError, MissingEnvironmentError, PacketError, UsageError
from edgekit.split.client import Address, Client, LinkOptions, ask_once
from edgekit.split.codec import EntropyCodec
from edgekit.split.messages import LENGTH, Answer, Kind, Reason, framed, unpack_refusal
from edgekit.split.packet import write_packet
from edgekit.split.server import Server

OPENSSL = shutil.which("openssl")


def sums(answer: Answer) -> np.ndarray:
    return np.asarray(answer.outputs["sums"])


async def refusal(connection: Raw) -> tuple[Reason, str]:
    message = await connection.next()
    assert message is not None
    assert message.kind == Kind.REFUSAL
    error = unpack_refusal(message.body)
    assert str(error).endswith(".")
    return error.reason, str(error)


async def is_answered(connection: Raw, seed: int, keep: int = 5) -> None:
    await connection.packet(packet(seed, keep))
    await answer(connection, seed, keep)


async def answer(connection: Raw, seed: int, channels: int = 5) -> None:
    message = await connection.next()
    assert message is not None, "the connection was closed"
    assert message.kind == Kind.ANSWER, message
    found = Answer.unpack(message.body)
    assert found.channels == channels
    assert np.array_equal(sums(found), expected(seed, channels))


def test_a_client_gets_what_the_tail_makes_of_its_packets():
    async def scenario() -> None:
        async with serving() as (server, address):
            client = await Client.connect(address, CODEC)
            for seed, keep in enumerate([5, 1, 3]):
                found = await client.ask(packet(seed, keep))
                assert np.array_equal(sums(found), expected(seed, keep))
                assert found.outputs["count"].dtype == np.int64
                assert found.channels == keep
                assert min(found.wait_ms, found.decode_ms, found.tail_ms) >= 0
            await client.close()
            assert (server.counts.answered, server.counts.refused) == (3, 0)

    asyncio.run(scenario())


def test_a_bad_packet_gets_a_sentence_and_the_connection_goes_on():
    whole = packet(0)
    other = EntropyCodec(CODEC.tables.pick([1, 0, 2, 3, 4]))
    poison = symbols(0)
    poison[0, 0, 0] = POISON
    bad = {
        whole[:-1] + bytes([whole[-1] ^ 1]): "checksum",
        b"\xff" + whole: "start with something else",
        b"": "ends within its header",
        whole[:12]: "ends within its header",
        whole + b"x": "after its header, which announces",
        write_packet(other, symbols(0)): "of another head",
        write_packet(CODEC, symbols(0)[:, :2]): "channels of 2x6; this tail takes 4x6",
        write_packet(CODEC, symbols(0), 1)[:-4]: "0 of 1 channels arrived",
        write_packet(CODEC, poison): "cannot compute with this input: poison",
    }

    async def scenario() -> None:
        async with serving() as (server, address), raw(address) as connection:
            for data, words in bad.items():
                await connection.packet(data)
                reason, sentence = await refusal(connection)
                assert words in sentence
                assert reason is (Reason.FAILED if "poison" in words else Reason.PACKET)
                await is_answered(connection, 1)
            assert (server.counts.answered, server.counts.refused) == (len(bad), len(bad))

    asyncio.run(scenario())


def test_an_oversized_message_is_refused_before_its_bytes_come_and_ends_the_connection():
    async def scenario() -> None:
        async with serving() as (_, address):
            for announced in (0, TAIL.most_packet_bytes + 2, 2**32 - 1):
                async with raw(address) as connection:
                    await connection.send(LENGTH.pack(announced) + b"\x03" * 2000)
                    reason, sentence = await refusal(connection)
                    assert reason is Reason.PROTOCOL
                    assert f"of {announced} bytes" in sentence
                    assert await connection.next() is None
            async with raw(address) as connection:
                await connection.send(framed(Kind.ANSWER, b"hello"))
                assert "kind 4" in (await refusal(connection))[1]

    asyncio.run(scenario())


def test_of_a_packet_that_is_half_sent_the_channels_that_arrived_are_answered():
    message = framed(Kind.PACKET, packet(3))

    async def scenario() -> None:
        async with serving() as (server, address):
            async with raw(address) as connection:  # its sender closes its side
                await connection.send(message[: len(message) - 30])
                connection.writer.write_eof()
                found = await connection.next()
                assert found is not None
                assert found.kind == Kind.ANSWER
                made = Answer.unpack(found.body)
                assert 1 <= made.channels < 5
                assert np.array_equal(sums(made), expected(3, made.channels))
                assert await connection.next() is None
            async with raw(address) as connection:  # its sender falls silent
                started = time.monotonic()
                await connection.send(message[: len(message) - 30])
                found = await connection.next()
                assert found is not None
                assert found.kind == Kind.ANSWER
                assert 0.4 < time.monotonic() - started < 2
                assert Answer.unpack(found.body).channels == made.channels
            async with raw(address) as connection:  # nothing that can be used came
                await connection.send(message[:20])
                reason, sentence = await refusal(connection)
                assert reason is Reason.SLOW
                assert "0.5 seconds" in sentence
            for cut in (1, 4):
                async with raw(address) as connection:
                    await connection.send(message[:cut])
                    assert (await refusal(connection))[0] is Reason.SLOW
            assert server.counts.of_parts == server.counts.answered == 2
            assert server.counts.refused == 3

    asyncio.run(scenario())


def test_a_byte_at_a_time_is_as_slow_as_nothing():
    async def scenario() -> None:
        async with serving() as (_, address), raw(address) as connection:
            message = framed(Kind.PACKET, packet(3))
            reading = asyncio.ensure_future(connection.next())
            started = time.monotonic()
            for byte in message:
                if reading.done():
                    break
                await connection.send(bytes([byte]))
                await asyncio.sleep(0.05)
            assert await reading is not None
            assert time.monotonic() - started < 2 < 0.05 * len(message)

    asyncio.run(scenario())


def test_an_idle_connection_is_closed_with_a_sentence():
    async def scenario() -> None:
        async with serving(idle_seconds=0.2) as (server, address), raw(address) as connection:
            reason, sentence = await refusal(connection)
            assert reason is Reason.IDLE
            assert "Nothing came for 0.2 seconds" in sentence
            assert await connection.next() is None
            assert server.counts.refused == 0

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_turned_away_and_free_places_are_taken_again():
    async def scenario() -> None:
        async with serving(connections=2) as (server, address):
            async with raw(address) as first, raw(address) as second:
                with pytest.raises(LinkError, match="2 connections and takes no more"):
                    await Client.connect(address, CODEC)
                await is_answered(first, 1)
                await is_answered(second, 2)
            for _ in range(100):
                if not server._open:
                    break
                await asyncio.sleep(0.01)
            assert np.array_equal(sums(await ask_once(address, CODEC, packet(4))), expected(4))
            assert server.counts.turned_away == 1

    asyncio.run(scenario())


def test_a_token_is_asked_for_and_never_travels():
    async def scenario() -> None:
        async with serving(token="correct horse") as (server, address):
            with pytest.raises(UsageError, match="asks for a token"):
                await ask_once(address, CODEC, packet(0))
            for wrong in ("wrong", ""):
                with pytest.raises(UsageError, match="does not know the same one"):
                    await ask_once(address, CODEC, packet(0), LinkOptions(wrong))
            right = LinkOptions("correct horse")
            assert np.array_equal(
                sums(await ask_once(address, CODEC, packet(0), right)), expected(0)
            )
            async with raw(address) as connection:  # no proof at all
                await connection.packet(packet(0))
                assert (await refusal(connection))[0] is Reason.TOKEN
            assert server.counts.answered == 1
            assert server.counts.turned_away == 4  # also the first, who gave up

    asyncio.run(scenario())


def test_a_head_of_other_tables_learns_it_before_it_sends_anything():
    other = EntropyCodec(CODEC.tables.pick([1, 0, 2, 3, 4]))

    async def scenario() -> None:
        async with serving() as (server, address):
            with pytest.raises(PacketError, match="tail of another head"):
                await Client.connect(address, other)
            assert server.counts.refused == 0

    asyncio.run(scenario())


def test_a_client_that_takes_no_answers_is_dropped():
    """Answers of a megabyte that nobody reads fill the buffers of the system, not of the server."""
    from dataclasses import replace

    large = replace(TAIL, run=lambda values: {"large": np.zeros((1 << 20,), np.uint8)})

    async def scenario() -> None:
        async with serving(large, answer_seconds=0.3) as (server, address):
            async with raw(address) as connection:
                connection.reader._limit = 1  # type: ignore[attr-defined]
                for _ in range(20):
                    connection.writer.write(framed(Kind.PACKET, packet(0)))
                for _ in range(300):
                    if server.counts.unread:
                        break
                    await asyncio.sleep(0.02)
                assert server.counts.unread == 1
            assert len((await ask_once(address, CODEC, packet(0))).outputs["large"]) == 1 << 20

    asyncio.run(scenario())


def test_stopping_answers_what_is_being_computed_and_lets_the_rest_go():
    slow = symbols(0)
    slow[0, 0, 0] = SLEEP

    async def scenario() -> None:
        async with serving() as (server, address):
            async with raw(address) as busy, raw(address) as idle:
                await busy.packet(write_packet(CODEC, slow))
                await asyncio.sleep(0.1)
                stopping = asyncio.ensure_future(server.stop())
                found = await busy.next()
                assert found is not None
                assert found.kind == Kind.ANSWER
                assert await busy.next() is None
                assert await idle.next() is None
                await stopping
            with pytest.raises(LinkError, match="cannot be reached"):
                await ask_once(address, CODEC, packet(0))

    asyncio.run(scenario())


def test_a_port_that_is_taken_and_a_host_that_is_none_get_a_sentence():
    async def scenario() -> None:
        async with serving() as (_, address):
            for host, port in ((address.host, address.port), ("256.0.0.1", 0), ("a" * 300, 1)):
                with pytest.raises(MissingEnvironmentError, match="Nothing can listen on"):
                    await Server(TAIL).start(host, port)

    asyncio.run(scenario())


@pytest.mark.parametrize("answers", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", framed(Kind.GREETING, b"\x09"), framed(Kind.ANSWER, b"")])  # fmt: skip
def test_whatever_else_listens_there_the_client_says_that_the_link_failed(answers: bytes):
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers)
        writer.close()

    async def scenario() -> None:
        listening = await asyncio.start_server(other, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(LinkError):
            await ask_once(Address("127.0.0.1", port), CODEC, packet(0))
        listening.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["7000", "host:", ":7000", "host:70000", "::1:7000", "host:-1"])
def test_an_address_that_is_none_is_refused(text: str):
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        Address.parse(text)


def test_addresses_are_written_as_they_are_read():
    for text in ("127.0.0.1:7411", "[::1]:0", "tail.example.org:443"):
        assert str(Address.parse(text)) == text
    assert Address.parse("[::1]:5") == Address("::1", 5)


def certificate(folder: Path) -> tuple[Path, Path]:
    assert OPENSSL is not None
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here to make a certificate")
def test_over_tls_all_is_the_same_and_plain_or_distrusting_clients_are_told(tmp_path: Path):
    cert, key = certificate(tmp_path)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(cert, key)
    trusting = LinkOptions(tls=ssl.create_default_context(cafile=str(cert)))
    distrusting = LinkOptions(tls=ssl.create_default_context())
    plain = LinkOptions(connect_seconds=1)

    async def scenario() -> None:
        async with serving(tls=theirs) as (server, address):
            found = await ask_once(address, CODEC, packet(7), trusting)
            assert np.array_equal(sums(found), expected(7))
            with pytest.raises(UsageError, match="is not trusted"):
                await ask_once(address, CODEC, packet(7), distrusting)
            with pytest.raises(LinkError):
                await ask_once(address, CODEC, packet(7), plain)
            client = await Client.connect(address, CODEC, trusting)
            client.writer.write(framed(Kind.PACKET, packet(3))[:-30])  # and no more
            message = await client._next(5)
            assert 1 <= Answer.unpack(message.body).channels < 5
            await client.close()
            assert server.counts.answered == 2

    asyncio.run(scenario())


def hostile(rng: random.Random) -> bytes:
    """Bytes of a connection after the greeting: noise, or a packet with a few bytes changed."""
    message = bytearray(framed(Kind.PACKET, packet(rng.randrange(100), rng.randint(1, 5))))
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(1, 200))
    for _ in range(rng.randint(1, 4)):
        message[rng.randrange(len(message))] = rng.randrange(256)
    return bytes(message[: rng.randint(1, len(message))])


def test_no_bytes_make_the_server_stop_serving():
    rng = random.Random(0)

    async def one(address: Address) -> None:
        async with raw(address) as connection:
            await connection.send(hostile(rng))
            connection.writer.write_eof()
            while await connection.next() is not None:
                pass

    async def scenario() -> None:
        async with serving() as (server, address):
            for _ in range(30):
                await asyncio.gather(*(one(address) for _ in range(10)))
            found = await ask_once(address, CODEC, packet(1), LinkOptions(answer_seconds=2))
            assert np.array_equal(sums(found), expected(1))
            assert server.counts.connections == 301

    asyncio.run(scenario())
