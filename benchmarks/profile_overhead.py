"""What `edgekit profile` itself costs and how well it agrees with itself.

python benchmarks/profile_overhead.py [--model mobilenet-v2] [--size 128x128] [--repeats 40] [--seconds 1]

Prints, of an ONNX export on one thread: the median under the profiler against that of a bare loop over
`session.run`, in turns; in how many of the pairs of profiles the stated intervals overlap; how much of the latency the
kernels' times add up to; and the size of the HTML page with the time to make it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import edgekit
from edgekit.backends.onnx.session import SERVING, SessionOptions
from edgekit.profiling.kernels import profile_kernels
from edgekit.profiling.of_bundle import ProfileOptions, profile_bundle
from edgekit.profiling.opened import Opened, Sessions, open_for_measuring
from edgekit.profiling.page import page
from edgekit.profiling.roofline import measure_roofline
from edgekit.profiling.timing import TimingOptions, time_runs, timed_ms

THREADS = 1


def bare_ms(opened: Opened, runs: int) -> list[float]:
    """A loop that knows nothing of edgekit: the session's own call between two readings of the clock."""
    session, feeds = opened.runnable.session, dict(opened.inputs)  # type: ignore[attr-defined]
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(None, feeds)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def overhead(opened: Opened, runs: int) -> None:
    bare_ms(opened, 20)
    bare, measured = [], []
    for _ in range(runs):  # in turns, so that what the machine does meets both
        bare += bare_ms(opened, 1)
        measured.append(timed_ms(opened.run))
    ratios = [b / a for a, b in zip(bare, measured, strict=True)]
    print(
        f"overhead: {statistics.median(measured):.3f} against {statistics.median(bare):.3f} ms of a bare loop, "
        f"ratio {statistics.median(ratios):.4f} (median of {runs} pairs)"
    )


def agreement(opened: Opened, repeats: int, seconds: float) -> None:
    options = TimingOptions(seconds)
    found = [time_runs(opened.run, options).latency for _ in range(repeats)]
    pairs = list(zip(found[::2], found[1::2], strict=False))
    agree = sum(a.interval.overlaps(b.interval) for a, b in pairs)
    medians = [latency.median for latency in found]
    wide = statistics.median((f.interval.high - f.interval.low) / f.median for f in found)
    print(
        f"agreement: intervals of {agree} of {len(pairs)} pairs of profiles of {seconds:g} s overlap; they are "
        f"{wide:.1%} of the median wide, and medians lie from {min(medians):.3f} to {max(medians):.3f} ms"
    )


def sums(opened: Opened) -> None:
    roofline = measure_roofline(THREADS)
    kernels = profile_kernels(
        opened.bundle.model_file, opened.inputs, SessionOptions(THREADS, SERVING), roofline, 1
    )
    print(
        f"kernels: {kernels.summed_ms:.3f} of {kernels.whole_ms:.3f} ms with the profiler of onnxruntime on "
        f"({kernels.summed_ms / kernels.whole_ms:.1%}), {len(kernels.kernels)} kernels"
    )


def whole_page(opened: Opened) -> None:
    found = profile_bundle(opened.bundle, ProfileOptions(THREADS, TimingOptions(1.0)))
    started = time.perf_counter()
    text = page(found)
    print(
        f"page: {len(text.encode()) / 1e3:.0f} kB for {sum(len(f.kernels) for f in found.kernels)} kernels, made in "
        f"{(time.perf_counter() - started) * 1e3:.0f} ms; kernels add up to {1 - (found.gap or 0):.1%} of the latency"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenet-v2")
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=300)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        model = edgekit.load(options.model, height=height, width=width)
        bundle = edgekit.export(
            model, target="onnx", output=Path(folder) / "bundle", simplify=False, verify=False
        )
        opened = open_for_measuring(bundle, Sessions(THREADS))
        overhead(opened, options.pairs)
        agreement(opened, options.repeats, options.seconds)
        sums(opened)
        whole_page(opened)


if __name__ == "__main__":
    main()
