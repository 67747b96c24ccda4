"""The coder in Python: the reference of rans.c, and its stand-in where no C compiler is found.

The format is CompressAI's rANS (see rans.h): symbols are coded from the last to the first, so that
a decoder reads them from the first on, and the words of the stream stand in its order.
"""

from __future__ import annotations

import struct
from bisect import bisect_right

import numpy as np

from edgekit.split.quantised_cdf import PROBABILITY_BITS, TOTAL
from edgekit.split.stream import Decoded, Ending, Symbols, check_channels
from edgekit.split.tables import Tables

LOWER_BOUND = 1 << 31
LIMIT_SHIFT = 47
"""A state of frequency << 47 or more gives a word away before it takes a symbol."""
DIGIT_BITS = 4
MOST_DIGITS = 9
"""An escape is twice a difference of 32-bit numbers: at most 34 bits."""
STATE_BYTES = 8
WORD = 0xFFFFFFFF
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


class PythonCoder:
    """See `stream.Coder`."""

    name = "python"

    def encode(self, tables: Tables, symbols: Symbols) -> bytes:
        check_channels(tables, len(symbols))
        writer = _Writer()
        for channel in range(len(symbols) - 1, -1, -1):
            ends = [*tables.lower_ends[channel], TOTAL]
            values = symbols[channel, ::-1].astype(np.int64) - tables.offsets[channel]
            writer.put_plane(values.tolist(), ends)
        return writer.stream()

    def decode(self, tables: Tables, stream: bytes, channels: int, plane: int) -> Decoded:
        check_channels(tables, channels)
        symbols: list[int] = []
        ending = _decode(tables, stream, channels, plane, symbols)
        return Decoded(np.array(symbols, np.int32), ending)


class _Writer:
    def __init__(self) -> None:
        self.state = LOWER_BOUND
        self.words: list[int] = []

    def put_plane(self, values: list[int], ends: list[int]) -> None:
        escape = len(ends) - 2
        limits = [(ends[i + 1] - ends[i]) << LIMIT_SHIFT for i in range(escape + 1)]
        for value in values:
            if 0 <= value < escape:
                entry = value
            else:
                self.put_escaped(value, escape)
                entry = escape
            self.make_room(limits[entry])
            quotient, rest = divmod(self.state, ends[entry + 1] - ends[entry])
            self.state = (quotient << PROBABILITY_BITS) + rest + ends[entry]

    def put_escaped(self, value: int, escape: int) -> None:
        """The digits after an escape entry: how many, then lowest first; in reverse, as all is."""
        raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
        count = -(-raw.bit_length() // DIGIT_BITS)
        digits = [count, *(raw >> DIGIT_BITS * i & 15 for i in range(count))]
        for digit in reversed(digits):
            self.make_room(TOTAL >> DIGIT_BITS << LIMIT_SHIFT)
            self.state = self.state << DIGIT_BITS | digit

    def make_room(self, limit: int) -> None:
        if self.state >= limit:
            self.words.append(self.state & WORD)
            self.state >>= 32

    def stream(self) -> bytes:
        words = [*self.words, self.state >> 32, self.state & WORD]
        return struct.pack(f"<{len(words)}I", *reversed(words))


class _CutError(Exception):
    pass


class _DamagedError(Exception):
    pass


def _decode(tables: Tables, stream: bytes, channels: int, plane: int, symbols: list[int]) -> Ending:
    try:
        reader = _Reader(stream)
        for channel in range(channels):
            ends = [*tables.lower_ends[channel], TOTAL]
            reader.take_plane(ends, tables.offsets[channel], plane, symbols)
        return Ending.WHOLE if reader.is_finished else Ending.DAMAGED
    except _CutError:
        return Ending.CUT
    except _DamagedError:
        return Ending.DAMAGED


class _Reader:
    """Takes a word when the next step needs it, so that no symbol waits for a word of the next."""

    def __init__(self, stream: bytes) -> None:
        if len(stream) < STATE_BYTES:
            raise _CutError
        self.words: tuple[int, ...] = struct.unpack_from(f"<{len(stream) // 4}I", stream)
        self.odd_bytes = len(stream) % 4
        self.state = self.words[1] << 32 | self.words[0]
        self.next = 2
        if not LOWER_BOUND <= self.state < 1 << 63:
            raise _DamagedError

    @property
    def is_finished(self) -> bool:
        return (self.state, self.next, self.odd_bytes) == (LOWER_BOUND, len(self.words), 0)

    def refill(self) -> None:
        if self.state < LOWER_BOUND:
            if self.next == len(self.words):
                raise _CutError
            self.state = self.state << 32 | self.words[self.next]
            self.next += 1

    def take_plane(self, ends: list[int], offset: int, plane: int, symbols: list[int]) -> None:
        escape = len(ends) - 2
        for _ in range(plane):
            self.refill()
            place = self.state & TOTAL - 1
            entry = bisect_right(ends, place) - 1
            lower = ends[entry]
            self.state = (
                (ends[entry + 1] - lower) * (self.state >> PROBABILITY_BITS) + place - lower
            )
            value = (self.take_escaped(escape) if entry == escape else entry) + offset
            if not INT32_MIN <= value <= INT32_MAX:
                raise _DamagedError
            symbols.append(value)

    def take_escaped(self, escape: int) -> int:
        count = self.take_digit()
        if count > MOST_DIGITS:
            raise _DamagedError
        digits = [self.take_digit() for _ in range(count)]
        if digits and digits[-1] == 0:  # an encoder writes no leading zero
            raise _DamagedError
        raw = sum(digit << DIGIT_BITS * i for i, digit in enumerate(digits))
        return -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + escape

    def take_digit(self) -> int:
        self.refill()
        digit = self.state & 15
        self.state >>= DIGIT_BITS
        return digit
