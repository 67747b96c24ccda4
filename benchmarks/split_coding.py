"""The entropy coder: symbols and megabytes per second of C and Python, bits against the entropy.

    python benchmarks/split_coding.py

Symbols are drawn from the tables themselves (24 channels of discretised Laplace distributions, as a
factorised prior gives) plus rare escapes. Entropy is what the tables charge for these symbols; a stream
ends with 8 bytes of state, which a small head feels. Rounds of both coders are interleaved and medians
printed. Times are CPU seconds of the one thread, so that a busy machine does not count against a core.
"""

from __future__ import annotations

import os
import platform
import statistics
import time

import numpy as np

from edgekit.split.coder import find_coder, why_not_native
from edgekit.split.quantised_cdf import TOTAL, quantised_cdf
from edgekit.split.stream import Coder, Symbols
from edgekit.split.tables import Tables

CASES = {
    "toy head 16x7x7": (16, 7 * 7),
    "mobile head 24x28x28": (24, 28 * 28),
    "Entropic Student 24x55x55": (24, 55 * 55),
    "large 24x512x512": (24, 512 * 512),
}
ESCAPED = 1e-4
ROUNDS = 9
PYTHON_SYMBOLS = 200_000  # of larger cases Python would take minutes


def laplace_tables(channels: int) -> Tables:
    """Scales from 0.3 (nearly silent) to 12 (wide) over 119 entries and the escape."""
    reach = 59
    rows = []
    for scale in np.geomspace(0.3, 12, channels):
        mass = np.exp(-np.abs(np.arange(-reach, reach + 1)) / scale)
        rows.append(tuple(quantised_cdf([*(mass / mass.sum() * (1 - 1e-5)), 1e-5])[:-1]))
    return Tables((0.0,) * channels, (-reach,) * channels, tuple(rows))


def draw(tables: Tables, plane: int, rng: np.random.Generator) -> Symbols:
    symbols = np.empty((tables.channels, plane), np.int32)
    for channel, ends in enumerate(tables.lower_ends):
        places = rng.integers(0, TOTAL, plane)
        entries = np.searchsorted(np.array(ends), places, "right") - 1
        symbols[channel] = np.minimum(entries, len(ends) - 2) + tables.offsets[channel]
    far = rng.random(symbols.shape) < ESCAPED
    symbols[far] = rng.integers(-2000, 2000, int(far.sum()))
    return symbols


def seconds(
    coders: list[Coder], tables: Tables, symbols: Symbols, stream: bytes
) -> list[tuple[float, float]]:
    """Median encode and decode time of each coder, rounds interleaved."""
    repeats = max(1, 200_000 // symbols.size)
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in coders]
    for _ in range(ROUNDS):
        for coder, (encode, decode) in zip(coders, times, strict=True):
            count = repeats if coder.name == "native" else 1
            start = time.thread_time()
            for _ in range(count):
                coder.encode(tables, symbols)
            middle = time.thread_time()
            for _ in range(count):
                coder.decode(tables, stream, *symbols.shape)
            encode.append((middle - start) / count)
            decode.append((time.thread_time() - middle) / count)
    return [(statistics.median(encode), statistics.median(decode)) for encode, decode in times]


def main() -> None:
    reason = why_not_native()
    if reason:
        print(reason)
    known = [find_coder("python")] if reason else [find_coder("native"), find_coder("python")]
    print(
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, one thread\n"
    )
    print(
        "| case | symbols | bits per symbol | entropy | coder | encode Msym/s | MB/s | decode Msym/s | MB/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    tables = laplace_tables(24)
    for case, (channels, plane) in CASES.items():
        symbols = draw(tables.pick(range(channels)), plane, np.random.default_rng(0))
        kept = tables.pick(range(channels))
        stream = known[0].encode(kept, symbols)
        bits = 8 * len(stream) / symbols.size
        entropy = kept.entropy_bits(symbols) / symbols.size
        coders = [c for c in known if c.name == "native" or symbols.size <= PYTHON_SYMBOLS]
        for coder, (encode, decode) in zip(
            coders, seconds(coders, kept, symbols, stream), strict=True
        ):
            if coder.encode(kept, symbols) != stream or not np.array_equal(
                coder.decode(kept, stream, channels, plane).symbols, symbols.ravel()
            ):
                raise SystemExit(f"{coder.name} does not code {case} as it should.")
            print(
                f"| {case} | {symbols.size} | {bits:.4f} | {entropy:.4f} | {coder.name} "
                f"| {symbols.size / encode / 1e6:.2f} | {len(stream) / encode / 1e6:.1f} "
                f"| {symbols.size / decode / 1e6:.2f} | {len(stream) / decode / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
