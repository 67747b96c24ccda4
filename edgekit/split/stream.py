"""What a decoder says about a stream, whichever coder read it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError
from edgekit.split.tables import Tables

Symbols = npt.NDArray[np.int32]


class Ending(Enum):
    """How a stream ended."""

    WHOLE = "whole"
    """All symbols were read, all words used, and the coder is back in its first state."""
    CUT = "cut"
    """The bytes ended early; the symbols before that are those that were encoded."""
    DAMAGED = "damaged"
    """No encoder writes this for these tables and sizes: the symbols mean nothing."""


@dataclass(frozen=True)
class Decoded:
    """The leading symbols that a stream determines, flat, and how the stream ended."""

    symbols: Symbols
    ending: Ending


class Coder(Protocol):
    """Both implementations give the same bytes and the same answers.

    Both methods raise UsageError for more channels than the tables have.
    """

    @property
    def name(self) -> str: ...

    def encode(self, tables: Tables, symbols: Symbols) -> bytes:
        """The stream of symbols k x plane for the first k channels of the tables."""

    def decode(self, tables: Tables, stream: bytes, channels: int, plane: int) -> Decoded:
        """What the stream determines of `channels` planes; whatever the bytes are."""


def check_channels(tables: Tables, channels: int) -> None:
    if not 0 <= channels <= tables.channels:
        raise UsageError(f"The tables code up to {tables.channels} channels, not {channels}.")
