"""Tables, symbols and golden streams that several tests of the coder share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from edgekit.split.quantised_cdf import TOTAL
from edgekit.split.stream import Symbols
from edgekit.split.tables import Tables

GOLDEN = Path(__file__).parents[1] / "golden"
RANS = np.load(GOLDEN / "split_rans.npz")
CASES = [str(name) for name in RANS["case_names"]]
PREFIX_CASES = [str(name) for name in RANS["prefix_cases"]]
SYMBOL_RANGE = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Case:
    tables: Tables
    symbols: Symbols
    """k x plane"""
    stream: bytes


def golden_tables(name: str) -> Tables:
    return Tables.from_rows(
        RANS[f"table_{name}.cdf"], RANS[f"table_{name}.cdf_length"], RANS[f"table_{name}.offset"]
    )


def golden(name: str) -> Case:
    """A case whose tables change from symbol to symbol has one channel for each symbol."""
    tables, symbols = golden_tables(str(RANS[f"{name}.table"])), RANS[f"{name}.symbols"]
    stream = RANS[f"{name}.stream"].tobytes()
    if f"{name}.hw" in RANS:
        return Case(tables, symbols.reshape(-1, int(RANS[f"{name}.hw"].prod())), stream)
    if not symbols.size:
        return Case(tables, symbols.reshape(0, 0), stream)
    return Case(tables.pick(RANS[f"{name}.indexes"].tolist()), symbols.reshape(-1, 1), stream)


@st.composite
def coding(draw: DrawFn) -> tuple[Tables, Symbols]:
    """Any tables (two entries, thousands, of width 1) with symbols in and far out of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, plane = draw(st.integers(1, 4)), draw(st.sampled_from([0, 1, 2, 63, 64, 300]))
    rows = []
    for _ in range(channels):
        entries = draw(st.sampled_from([2, 3, 17, 257, 511, 512, 513, 3000]))
        # Bunched ends make entries of width 1 beside very wide ones.
        highest = draw(st.sampled_from([entries, 4 * entries, TOTAL - 1]))
        inner = rng.choice(np.arange(1, highest + 1), entries - 1, replace=False)
        rows.append((0, *sorted(inner.tolist())))
    offsets = [draw(st.sampled_from([0, -40, 5, SYMBOL_RANGE[0], 2**31 - 4000])) for _ in rows]
    symbols = np.empty((channels, plane), np.int32)
    for channel, (row, offset) in enumerate(zip(rows, offsets, strict=True)):
        inside = rng.integers(0, len(row) - 1, plane) + offset
        near = inside + rng.integers(-20, 20, plane) * len(row)
        wild = rng.integers(*SYMBOL_RANGE, plane, endpoint=True)
        kind = rng.random(plane)
        chosen = np.where(kind < 0.8, inside, np.where(kind < 0.95, near, wild))
        symbols[channel] = np.clip(chosen, *SYMBOL_RANGE)
    return Tables((0.0,) * channels, tuple(offsets), tuple(rows)), symbols
