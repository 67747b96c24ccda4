"""The entropy coder, in C and in Python, against the official streams and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from coding_cases import CASES, PREFIX_CASES, RANS, SYMBOL_RANGE, coding, golden, golden_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.split.coder import find_coder, why_not_native
from edgekit.split.rans import PythonCoder
from edgekit.split.stream import Coder, Decoded, Ending, Symbols
from edgekit.split.tables import Tables

NO_COMPILER = why_not_native()
needs_native = pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)
PYTHON = PythonCoder()
FUZZ = settings(max_examples=60, deadline=None)


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "python"])
def coder(request: pytest.FixtureRequest) -> Coder:
    return find_coder(request.param)


def both_decode(tables: Tables, stream: bytes, symbols: Symbols) -> Decoded:
    """One answer of two coders, or the test fails."""
    python = PYTHON.decode(tables, stream, *symbols.shape)
    if not NO_COMPILER:
        native = find_coder("native").decode(tables, stream, *symbols.shape)
        assert native.ending is python.ending
        assert np.array_equal(native.symbols, python.symbols)
    return python


@pytest.mark.parametrize("name", CASES)
def test_streams_are_the_official_bytes_and_decode_to_their_symbols(name: str, coder: Coder):
    case = golden(name)
    assert coder.encode(case.tables, case.symbols) == case.stream
    decoded = coder.decode(case.tables, case.stream, *case.symbols.shape)
    assert decoded.ending is Ending.WHOLE
    assert np.array_equal(decoded.symbols, case.symbols.ravel())


@pytest.mark.parametrize("name", PREFIX_CASES)
def test_a_stream_cut_at_any_byte_gives_every_symbol_that_its_bytes_determine(
    name: str, coder: Coder
):
    case = golden(name)
    determined = dict(
        zip(RANS[f"{name}.cut_bytes"].tolist(), RANS[f"{name}.cut_symbols"].tolist(), strict=True)
    )
    for size, count in determined.items():
        for extra in (0, 3):
            decoded = coder.decode(case.tables, case.stream[: size + extra], *case.symbols.shape)
            if size + extra < len(case.stream):
                assert decoded.ending is Ending.CUT
                assert decoded.symbols.size == count
            assert np.array_equal(decoded.symbols, case.symbols.ravel()[:count])


@FUZZ
@given(coding())
def test_both_coders_write_the_same_bytes_and_read_them_back(given: tuple[Tables, Symbols]):
    tables, symbols = given
    stream = PYTHON.encode(tables, symbols)
    if not NO_COMPILER:
        assert find_coder("native").encode(tables, symbols) == stream
    decoded = both_decode(tables, stream, symbols)
    assert decoded.ending is Ending.WHOLE
    assert np.array_equal(decoded.symbols, symbols.ravel())


@FUZZ
@given(coding(), st.floats(0, 1))
def test_any_cut_of_any_stream_is_a_correct_prefix(given: tuple[Tables, Symbols], share: float):
    tables, symbols = given
    stream = PYTHON.encode(tables, symbols)
    cut = stream[: int(share * (len(stream) - 1))]
    decoded = both_decode(tables, cut, symbols)
    assert decoded.ending is Ending.CUT or not symbols.size
    assert np.array_equal(decoded.symbols, symbols.ravel()[: decoded.symbols.size])


@FUZZ
@given(coding(), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_damaged_streams_end_and_both_coders_agree_on_them(
    given: tuple[Tables, Symbols], damage: list[tuple[float, int]]
):
    tables, symbols = given
    stream = bytearray(PYTHON.encode(tables, symbols))
    for place, change in damage:
        stream[int(place * (len(stream) - 1))] ^= change
    both_decode(tables, bytes(stream), symbols)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(["eb", "small", "narrow"]))
def test_random_bytes_end_and_both_coders_agree_on_them(stream: bytes, name: str):
    tables = golden_tables(name)
    both_decode(tables, stream, np.empty((tables.channels, 100), np.int32))


def test_bytes_after_a_whole_stream_are_damage(coder: Coder):
    case = golden("latent_map")
    for more in (b"\0", b"\0\0\0\0"):
        decoded = coder.decode(case.tables, case.stream + more, *case.symbols.shape)
        assert decoded.ending is Ending.DAMAGED


def test_an_escape_of_too_many_digits_is_damage(coder: Coder):
    """A count of 15 goes on for ever in the official decoder."""
    tables = Tables((0.0,), (0,), ((0, 1),))  # the escape has all but one of the places
    state = (1 << 31) << 20 | 0xF << 16 | 0xFFFF  # an escape; its count is 15 or so
    stream = (state & 0xFFFFFFFF).to_bytes(4, "little") + (state >> 32).to_bytes(4, "little")
    decoded = coder.decode(tables, stream + b"\xff" * 64, 1, 8)
    assert decoded.ending is Ending.DAMAGED


def test_a_symbol_beyond_32_bits_is_damage(coder: Coder):
    """Another offset than the encoder's puts its farthest symbols out of reach."""
    low, high = SYMBOL_RANGE
    ends = ((0, 9, 65535),)
    for symbol, other in ((high, 1000), (low, -1000)):
        stream = coder.encode(Tables((0.0,), (0,), ends), np.array([[symbol] * 70], np.int32))
        decoded = coder.decode(Tables((0.0,), (other,), ends), stream, 1, 70)
        assert decoded.ending is Ending.DAMAGED


def test_more_channels_than_tables_get_a_sentence(coder: Coder):
    tables = golden_tables("narrow")
    with pytest.raises(UsageError, match="up to 12 channels, not 13"):
        coder.encode(tables, np.zeros((13, 2), np.int32))
    with pytest.raises(UsageError, match="up to 12 channels, not 13"):
        coder.decode(tables, bytes(8), 13, 2)


def test_the_farthest_symbols_that_exist_come_back(coder: Coder):
    low, high = SYMBOL_RANGE
    for offset in (low, 0, high - 4):
        tables = Tables((0.0,), (offset,), ((0, 9, 65535),))
        symbols = np.array([[low, high, 0, low, high]], np.int32)
        stream = coder.encode(tables, symbols)
        assert coder.decode(tables, stream, 1, 5).symbols.tolist() == symbols[0].tolist()


def test_a_head_that_keeps_fewer_channels_writes_the_stream_of_those(coder: Coder):
    case = golden("latent_map")
    kept = coder.encode(case.tables, case.symbols[:5])
    decoded = coder.decode(case.tables, kept, 5, case.symbols.shape[1])
    assert decoded.ending is Ending.WHOLE
    assert np.array_equal(decoded.symbols, case.symbols[:5].ravel())


def test_bits_of_a_stream_are_those_that_its_tables_charge(coder: Coder):
    for name in ("latent_map", "narrow_map", "escapes_5pct"):
        case = golden(name)
        bits = 8 * len(case.stream)
        assert 0 <= bits - case.tables.entropy_bits(case.symbols) < 64 + 32
