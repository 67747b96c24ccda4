"""Packets of all three codecs: whole, cut at every byte, damaged at every byte."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from coding_cases import golden_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import PacketError, UsageError
from edgekit.split.codec import CalibratedCodec, Codec, DynamicCodec, EntropyCodec, Sizes
from edgekit.split.packet import Header, Limits, Placement, read_header, read_packet, write_packet
from edgekit.split.quantise8 import Calibration
from edgekit.split.rans import PythonCoder

TABLES = golden_tables("narrow").pick(range(5))
PLACEMENT = Placement(1080, 1920, 49, -3, 126, 224)
HEIGHT, WIDTH = 4, 6
FLOATS = np.random.default_rng(5).normal(0, 3, (5, HEIGHT, WIDTH)).astype(np.float32)
CALIBRATION = Calibration.over([FLOATS[None]])
SYMBOLS = np.rint(FLOATS).astype(np.int16)
HEADS: dict[str, tuple[Codec, np.ndarray]] = {
    "entropy": (EntropyCodec(TABLES), SYMBOLS),
    "entropy in Python": (EntropyCodec(TABLES, PythonCoder()), SYMBOLS),
    "calibrated": (CalibratedCodec(CALIBRATION), CALIBRATION.quantise(FLOATS)),
    "dynamic": (DynamicCodec(5), FLOATS),
}


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> tuple[Codec, np.ndarray]:
    return HEADS[request.param]


def test_a_packet_brings_the_bottleneck_and_where_the_picture_lies(head: tuple[Codec, np.ndarray]):
    codec, bottleneck = head
    arrived = read_packet(codec, write_packet(codec, bottleneck, placement=PLACEMENT))
    assert arrived.is_whole
    assert arrived.header.placement == PLACEMENT
    assert arrived.values.shape == FLOATS.shape
    # Rounding costs half a symbol at most; the medians of these tables lie within half of zero.
    assert np.abs(arrived.values - FLOATS).max() <= 1


def test_channels_that_were_not_kept_are_zero_and_cost_no_bytes(head: tuple[Codec, np.ndarray]):
    codec, bottleneck = head
    whole, part = write_packet(codec, bottleneck), write_packet(codec, bottleneck, keep=2)
    assert len(part) < 0.65 * len(whole)
    arrived = read_packet(codec, part)
    assert (arrived.channels, arrived.is_whole) == (2, True)
    assert not arrived.values[2:].any()
    if not isinstance(codec, DynamicCodec):  # its range is that of what is sent
        assert np.array_equal(arrived.values[:2], read_packet(codec, whole).values[:2])


def test_a_packet_cut_at_any_byte_brings_a_prefix_of_channels_or_a_sentence(
    head: tuple[Codec, np.ndarray],
):
    codec, bottleneck = head
    data = write_packet(codec, bottleneck, placement=PLACEMENT)
    whole = read_packet(codec, data).values
    _, start = read_header(data, Limits())
    counts = []
    for size in range(len(data)):
        if size < start:
            with pytest.raises(PacketError, match=f"within its header, after {size} bytes"):
                read_packet(codec, data[:size])
            continue
        arrived = read_packet(codec, data[:size])
        assert not arrived.is_whole
        assert np.array_equal(arrived.values[: arrived.channels], whole[: arrived.channels])
        assert not arrived.values[arrived.channels :].any()
        counts.append(arrived.channels)
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3, 4}


def test_a_packet_damaged_at_any_byte_gets_a_sentence(head: tuple[Codec, np.ndarray]):
    codec, bottleneck = head
    data = write_packet(codec, bottleneck)
    for place in range(len(data)):
        for change in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(PacketError, match=r"^[^\n]+\.$"):
                read_packet(codec, bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(HEADS)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=3),
    st.integers(0, 400),
    st.binary(max_size=8),
)
def test_whatever_happens_to_a_packet_it_is_read_or_refused(
    name: str, damage: list[tuple[int, int]], size: int, more: bytes
):
    codec, bottleneck = HEADS[name]
    data = bytearray(write_packet(codec, bottleneck))
    for place, change in damage:
        data[place % len(data)] ^= change
    try:
        arrived = read_packet(codec, bytes(data[:size] + more))
    except PacketError:
        return
    assert arrived.values.shape == FLOATS.shape
    assert np.isfinite(arrived.values).all()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(HEADS)), st.binary(max_size=120), st.integers(0, 9), st.integers(0, 40))
def test_a_hostile_sender_with_right_checksums_is_read_or_refused(
    name: str, payload: bytes, channels: int, side: int
):
    codec, _ = HEADS[name]
    header = sent_header(codec, payload, Sizes(channels, side, side))
    for data in (header.pack() + payload, header.pack() + payload[:-1]):
        try:
            arrived = read_packet(codec, data)
        except PacketError:
            continue
        assert arrived.values.shape == (5, side, side)
        assert np.isfinite(arrived.values).all()


def sent_header(codec: Codec, payload: bytes, sizes: Sizes) -> Header:
    return Header(codec.number, codec.digest[:4], sizes, None, len(payload), zlib.crc32(payload))


def test_a_small_packet_that_announces_a_huge_one_is_refused_before_it_takes_memory(
    head: tuple[Codec, np.ndarray],
):
    codec, _ = head
    huge = 2**32 - 1
    for sizes in (Sizes(1, 60000, 60000), Sizes(5, huge, huge)):
        data = sent_header(codec, b"12345678", sizes).pack() + b"12345678"
        with pytest.raises(PacketError, match="1 to 4194304 symbols"):
            read_packet(codec, data)
    data = sent_header(codec, b"12345678", Sizes(1, 2000, 2000)).pack() + b"12345678"
    with pytest.raises(PacketError, match="fill 5 channels of 2000x2000"):
        read_packet(codec, data)
    header = replace(sent_header(codec, b"", Sizes(1, 1, 1)), payload_bytes=huge)
    with pytest.raises(PacketError, match="up to 16777216 bytes"):
        read_packet(codec, header.pack())


def test_a_packet_of_another_head_is_refused():
    data = write_packet(*HEADS["entropy"])
    others: list[Codec] = [
        EntropyCodec(golden_tables("narrow").pick([0, 1, 2, 3, 3])),
        CalibratedCodec(CALIBRATION),
        DynamicCodec(5),
    ]
    for other in others:
        with pytest.raises(PacketError, match="of another head"):
            read_packet(other, data)
    with pytest.raises(PacketError, match="of another head"):
        read_packet(DynamicCodec(4), write_packet(*HEADS["dynamic"]))
    with pytest.raises(PacketError, match="of another head"):
        read_packet(DynamicCodec(5, "ab"), write_packet(DynamicCodec(5, "cd"), FLOATS))


def test_sizes_that_do_not_belong_to_the_payload_are_damage(head: tuple[Codec, np.ndarray]):
    codec, bottleneck = head
    data = write_packet(codec, bottleneck)
    header, start = read_header(data, Limits())
    for sizes in (Sizes(5, HEIGHT, WIDTH + 1), Sizes(4, HEIGHT, WIDTH), Sizes(6, HEIGHT, WIDTH)):
        with pytest.raises(PacketError, match=r"damaged|at most"):
            read_packet(codec, replace(header, sizes=sizes).pack() + data[start:])


def test_a_header_is_about_twenty_bytes():
    codec, bottleneck = HEADS["entropy"]
    sizes = [
        read_header(write_packet(codec, bottleneck, placement=placement), Limits())[1]
        for placement in (None, PLACEMENT)
    ]
    assert sizes == [20, 29]


def test_bytes_on_the_wire_never_change():
    """Heads in the field write them; a change needs another version."""
    codec = CalibratedCodec(Calibration((0.5,), (3,)))
    data = write_packet(
        codec, np.array([[[1, 2, 255]]], np.uint8), placement=Placement(480, 640, 28, -1, 168, 224)
    )
    assert data.hex() == "ee4b018280d76fcf01010303e00380053801a801e0012a3eb7e1555e7e830102ff"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("entropy", lambda x: x.astype(np.float32), "whole-number symbols, not float32"),
        ("entropy", lambda x: x.astype(np.int64) + 2**31, "do not fit into 32 bits"),
        ("entropy", lambda x: x[:4], "5 H W here"),
        ("entropy", lambda x: x[None], "5 H W here"),
        ("entropy", lambda x: x[:, :0], "5 H W here"),
        ("calibrated", lambda x: x.astype(np.int32), "uint8 codes, not int32"),
        ("dynamic", lambda x: x.astype(np.int8), "floating-point values, not int8"),
        ("dynamic", lambda x: x * np.float32("nan"), "not finite"),
    ],
)
def test_what_no_head_gives_gets_a_sentence(name: str, change: Callable[[Any], Any], words: str):
    codec, bottleneck = HEADS[name]
    with pytest.raises(UsageError, match=words):
        write_packet(codec, change(bottleneck))


@pytest.mark.parametrize("keep", [0, -1, 6])
def test_only_channels_that_exist_can_be_kept(head: tuple[Codec, np.ndarray], keep: int):
    codec, bottleneck = head
    with pytest.raises(UsageError, match="1 to 5 can be kept"):
        write_packet(codec, bottleneck, keep)


def test_boxes_come_back_to_the_picture_they_were_found_in():
    letterboxed = Placement(100, 200, 56, 0, 112, 224)
    corners = np.array([[0.0, 56.0, 224.0, 168.0], [112.0, 112.0, 300.0, 224.0]])
    assert letterboxed.to_source(corners).tolist() == [[0, 0, 200, 100], [100, 50, 200, 100]]
    cropped = Placement(256, 256, -16, -16, 256, 256)
    assert cropped.to_source(np.array([[0, 0, 224, 224]])).tolist() == [[16, 16, 240, 240]]


def test_a_bottleneck_has_channels():
    with pytest.raises(UsageError, match="at least one channel"):
        DynamicCodec(0)


def test_a_picture_without_pixels_cannot_be_placed():
    with pytest.raises(UsageError, match="cannot be placed"):
        Placement(0, 5, 0, 0, 5, 5)
