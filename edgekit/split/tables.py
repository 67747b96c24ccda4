"""Frequency tables of an entropy model: integers that head and tail share as data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError
from edgekit.split.quantised_cdf import TOTAL
from edgekit.split.sealed import Kind, read_sealed, write_sealed

KIND = Kind("edgekit-coding-tables", 1, "coding tables")
INT32 = np.iinfo(np.int32)
MOST_CHANNELS = 65535


@dataclass(frozen=True)
class FlatTables:
    """All lower ends one after another, where each table starts (and the last one ends), offsets."""

    lower: npt.NDArray[np.uint16]
    start: npt.NDArray[np.uint32]
    offset: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Tables:
    """One frequency table for each channel of a bottleneck, in coding order.

    `lower_ends[c]` are the cumulative frequencies of channel c without the closing 65,536: rising,
    from 0, at least two. The entry i stands for the symbol `offsets[c] + i`; the last entry is the
    escape that all other symbols share. A symbol s of channel c means the value s + `medians[c]`.

    Raises UsageError for tables that no stream could be written with.
    """

    medians: tuple[float, ...]
    offsets: tuple[int, ...]
    lower_ends: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not len(self.medians) == len(self.offsets) == len(self.lower_ends):
            raise UsageError(
                f"Coding tables need one median, offset and table for each channel, not "
                f"{len(self.medians)}, {len(self.offsets)} and {len(self.lower_ends)}."
            )
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise UsageError(
                f"Coding tables hold 1 to {MOST_CHANNELS} channels, not {self.channels}."
            )
        for channel in range(self.channels):
            reason = self._why_not(channel)
            if reason:
                raise UsageError(f"The coding table of channel {channel} is unusable: {reason}.")

    def _why_not(self, channel: int) -> str:
        ends, offset = np.asarray(self.lower_ends[channel]), self.offsets[channel]
        if ends.ndim != 1 or not 2 <= ends.size <= TOTAL or ends.dtype.kind != "i":
            return f"it takes 2 to {TOTAL} whole numbers"
        if ends[0] != 0 or ends[-1] >= TOTAL or (np.diff(ends) <= 0).any():
            return f"its numbers do not rise from 0 to below {TOTAL}"
        if not INT32.min <= offset <= INT32.max - ends.size:
            return f"the offset {offset} leads beyond 32 bits"
        if not abs(self.medians[channel]) <= np.finfo(np.float32).max:
            return "its median is not finite"
        return ""

    @property
    def channels(self) -> int:
        return len(self.offsets)

    @classmethod
    def from_rows(
        cls,
        cdf: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.integer],
        offsets: npt.NDArray[np.integer],
        medians: npt.NDArray[np.floating] | None = None,
    ) -> Tables:
        """Of the buffers of a CompressAI EntropyBottleneck: rows padded to one length, `lengths`
        counts each row's entries and its closing 65,536. Without medians they are 0."""
        if cdf.ndim != 2 or lengths.shape != (len(cdf),) or offsets.shape != (len(cdf),):
            raise UsageError(
                f"A quantised CDF of shape {cdf.shape} does not go with lengths {lengths.shape} "
                f"and offsets {offsets.shape}: one row, length and offset for each channel."
            )
        if len(cdf) and not (lengths.min() >= 3 and lengths.max() <= cdf.shape[1]):
            raise UsageError(
                f"Lengths of a quantised CDF lie between 3 and its width {cdf.shape[1]}, "
                f"not between {lengths.min()} and {lengths.max()}."
            )
        rows = [row[:length].tolist() for row, length in zip(cdf, lengths, strict=True)]
        for channel, row in enumerate(rows):
            if row[-1] != TOTAL:
                raise UsageError(
                    f"The quantised CDF of channel {channel} ends at {row[-1]}, not {TOTAL}."
                )
        centres = np.zeros(len(cdf)) if medians is None else np.ravel(medians)
        return cls(
            tuple(float(np.float32(m)) for m in centres),
            tuple(offsets.tolist()),
            tuple(tuple(row[:-1]) for row in rows),
        )

    def pick(self, channels: Sequence[int]) -> Tables:
        """The tables of these channels in this order; a channel may come more than once."""
        return Tables(
            tuple(self.medians[c] for c in channels),
            tuple(self.offsets[c] for c in channels),
            tuple(self.lower_ends[c] for c in channels),
        )

    @cached_property
    def flat(self) -> FlatTables:
        """The numbers in the arrays that rans.h asks for."""
        lengths = [len(ends) for ends in self.lower_ends]
        return FlatTables(
            np.concatenate([np.array(ends, np.uint16) for ends in self.lower_ends]),
            np.cumsum([0, *lengths]).astype(np.uint32),
            np.array(self.offsets, np.int32),
        )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the numbers in one binary form, whatever file they came from."""
        flat = self.flat
        arrays = (
            np.array(self.medians, "<f4"), flat.offset.astype("<i4"),
            flat.start.astype("<u4"), flat.lower.astype("<u2"),
        )  # fmt: skip
        hashed = hashlib.sha256(f"{KIND.format} {KIND.version} {self.channels}\n".encode())
        for array in arrays:
            hashed.update(array.tobytes())
        return hashed.digest()

    def symbols(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
        """Values C H W rounded to symbols, in float32 and half to even, as an exported head does.

        Raises UsageError for another number of channels, and for values beyond all symbols.
        """
        if len(values) != self.channels:
            raise UsageError(f"The tables have {self.channels} channels, the values {len(values)}.")
        medians = np.asarray(self.medians, np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            column = medians.reshape(-1, *(1,) * (values.ndim - 1))
            rounded = np.rint(np.asarray(values, np.float32) - column)
        # The largest float32 below 2^31 still fits; NaN fails both comparisons.
        if not ((rounded >= INT32.min) & (rounded < INT32.max)).all():
            raise UsageError(
                "Some values of the bottleneck are not finite or beyond 32-bit symbols."
            )
        symbols: npt.NDArray[np.int32] = rounded.astype(np.int32)
        return symbols

    def values(self, symbols: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Symbols k H W, k up to all channels, as float32 C H W for the tail.

        Channels that were not sent are 0, as in training with dropped tails.
        """
        kept = len(symbols)
        out = np.zeros((self.channels, *symbols.shape[1:]), np.float32)
        medians = np.asarray(self.medians[:kept], np.float32)
        out[:kept] = symbols.astype(np.float32) + medians.reshape(-1, *(1,) * (symbols.ndim - 1))
        return out

    def entropy_bits(self, symbols: npt.NDArray[np.integer]) -> float:
        """What the tables charge for symbols k H W: the sum of -log2 of their frequencies, with 4
        bits for each digit of an escaped symbol. A stream is 8 bytes of state longer at most."""
        total = 0.0
        for channel, plane in enumerate(symbols):
            ends = np.append(self.lower_ends[channel], TOTAL)
            value = plane.astype(np.int64).ravel() - self.offsets[channel]
            escape = ends.size - 2
            outside = (value < 0) | (value >= escape)
            entry = np.where(outside, escape, value)
            total -= float(np.log2(np.diff(ends)[entry] / TOTAL).sum())
            raw = np.where(value < 0, -2 * value - 1, 2 * (value - escape))[outside]
            total += sum(4 + 4 * -(-int(r).bit_length() // 4) for r in raw)
        return total

    def write(self, path: Path) -> None:
        """As JSON: the numbers, and their digest for whoever reads them."""
        fields = {"medians": self.medians, "offsets": self.offsets, "lower_ends": self.lower_ends}
        write_sealed(path, KIND, self.digest, fields)

    @classmethod
    def read(cls, path: Path) -> Tables:
        """Raises UsageError for a file that is missing, no tables, or not what was written."""
        sealed = read_sealed(path, KIND)
        medians = sealed.numbers("medians")
        offsets = sealed.whole_numbers("offsets")
        rows = sealed.rows_of_whole_numbers("lower_ends")
        tables = cls(tuple(medians), tuple(offsets), tuple(map(tuple, rows)))
        sealed.check(tables.digest)
        return tables
