"""What `edgekit profile` itself costs, how well it agrees with itself, and what its layers and its page are.

python benchmarks/profile_overhead.py [--model mobilenet-v2] [--size 128x128 | --bundle FOLDER] [--repeats 100] [--seconds 1]

Prints, of an ONNX export on one thread:

overhead   runs of the profiler's loop against those of a bare loop, which reads no clock: pairs of stretches, the order
           changed each time, and the interval of their median ratio by a block bootstrap. In processor time, which other
           work on the machine is not counted in, and in time that passed.
agreement  pairs of profiles, each in a fresh process: in how many the stated intervals overlap, and in how many the
           medians differ by no more than both intervals allow together, which of right intervals is 95 in 100.
layers     how much of a run its kernels add up to, run by run, with the profiler of onnxruntime on.
page       bytes of the report with 500 kernels, and how long a headless Chromium takes to load it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import edgekit
from edgekit.backends.onnx.kernel_events import profiled_runs
from edgekit.backends.onnx.session import SERVING, SessionOptions
from edgekit.bundle import Bundle, open_bundle
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.of_bundle import ProfileOptions, profile_bundle
from edgekit.profiling.opened import Opened, Sessions, open_for_measuring
from edgekit.profiling.page import page
from edgekit.profiling.result import Profile
from edgekit.profiling.timing import TimingOptions, time_runs, timed_ms, warm_up

THREADS = 1
STRETCH = 5
KERNELS = 500
RESAMPLES = 2000
BLOCKS = 20
CLOCKS = {"processor": time.process_time, "passed": time.perf_counter}
BARE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>empty</title></head><body></body></html>"""
FRAME = """<!doctype html><body><script>
const frame = document.createElement("iframe"), start = performance.now();
frame.width = 1200; frame.height = 900;
frame.onload = () => { document.body.dataset.ms = performance.now() - start; };
frame.src = "report.html"; document.body.append(frame);
</script></body>"""


def block_bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of samples that are put together of the values' own stretches, as neighbours are alike."""
    given = np.asarray(values)
    length = max(1, len(given) // BLOCKS)
    count = math.ceil(len(given) / length)
    random = np.random.default_rng(0)
    starts = random.integers(0, len(given) - length + 1, (RESAMPLES, count))
    drawn = given[starts[..., None] + np.arange(length)].reshape(RESAMPLES, -1)[:, : len(given)]
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def overhead(opened: Opened, pairs: int) -> None:
    session, feeds = opened.runnable.session, dict(opened.inputs)  # type: ignore[attr-defined]
    run, samples = opened.timed(), list[float]()

    def bare() -> None:
        for _ in range(STRETCH):
            session.run(None, feeds)

    def profiled() -> None:
        for _ in range(STRETCH):
            samples.append(timed_ms(run))  # as the profiler's loop does

    loops: tuple[Callable[[], None], ...] = (bare, profiled)
    for loop in loops:
        loop()
    taken: dict[str, list[list[float]]] = {name: [[], []] for name in CLOCKS}
    for number in range(pairs):
        for which in (number % 2, 1 - number % 2):
            before = {name: clock() for name, clock in CLOCKS.items()}
            loops[which]()
            for name, clock in CLOCKS.items():
                taken[name][which].append(1e3 * (clock() - before[name]) / STRETCH)
    for name, (without, with_it) in taken.items():
        ratios = [b / a for a, b in zip(without, with_it, strict=True)]
        low, high = (100 * (end - 1) for end in block_bootstrap(ratios))
        print(
            f"overhead: {100 * (statistics.median(ratios) - 1):+.2f} % ({low:+.2f} to {high:+.2f} at 95 %) of {name} time, "
            f"{statistics.median(with_it):.3f} against {statistics.median(without):.3f} ms, {pairs} pairs of {STRETCH} runs"
        )


def once(bundle: Path, seconds: float) -> None:
    """One profile's samples, by both clocks, as JSON on stdout."""
    opened = open_for_measuring(open_bundle(bundle), Sessions(THREADS))
    timed, spent = opened.timed(), list[float]()

    def run() -> None:
        before = time.process_time()
        timed()
        spent.append(1e3 * (time.process_time() - before))

    latency = time_runs(run, TimingOptions(seconds)).latency
    print(json.dumps({"passed": latency.samples, "processor": spent[-len(latency.samples) :]}))


def agreement(bundle: Path, pairs: int, seconds: float) -> None:
    command = [sys.executable, __file__, "--once", str(bundle), "--seconds", str(seconds)]
    before = os.getloadavg()[0]
    told = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(2 * pairs)
    ]
    for clock in ("passed", "processor"):
        found = [Distribution(tuple(one[clock])) for one in told]
        together = list(zip(found[::2], found[1::2], strict=True))
        overlap = sum(a.interval.overlaps(b.interval) for a, b in together)
        parts = [abs(a.median - b.median) / _reach(a, b) for a, b in together]
        within = sum(part <= 1 for part in parts)
        medians = [latency.median for latency in found]
        wide = statistics.median((f.interval.high - f.interval.low) / f.median for f in found)
        drawn = (block_bootstrap(latency.samples) for latency in found)
        bootstrap = statistics.median(
            (high - low) / f.median for (low, high), f in zip(drawn, found, strict=True)
        )
        print(
            f"agreement: of {pairs} pairs of profiles of {seconds:g} s of {clock} time intervals overlap in {overlap}, and "
            f"medians differ by less than both intervals together in {within} (95 of 100 by {np.percentile(parts, 95):.2f} of "
            f"that: above 1 processes differ by more than runs of one of them); intervals are {wide:.1%} of the median wide "
            f"({bootstrap:.1%} by a block bootstrap), medians lie from {min(medians):.3f} to {max(medians):.3f} ms; "
            f"load {before:.1f} to {os.getloadavg()[0]:.1f}"
        )


def _reach(one: Distribution, other: Distribution) -> float:
    """What medians of two independent profiles differ by at most, in 95 of 100."""
    first, second = (
        (d.interval.high - d.median, d.median - d.interval.low)
        for d in ((one, other) if one.median < other.median else (other, one))
    )
    return max(1e-9, math.hypot(first[0], second[1]))


def layers(opened: Opened) -> None:
    options = SessionOptions(THREADS, SERVING)
    seen = profiled_runs(opened.bundle.model_file, opened.inputs, options, 100)
    summed = np.sum([kernel.times_ms for kernel in seen.kernels], axis=0)
    shares = summed / np.array(seen.whole_ms)
    low, high = block_bootstrap(shares)
    print(
        f"layers: {len(seen.kernels)} kernels add up to {np.median(shares):.1%} of a run ({low:.1%} to {high:.1%} at 95 %), "
        f"{len(shares)} runs with the profiler of onnxruntime on"
    )


def whole_page(opened: Opened, folder: Path) -> None:
    found = profile_bundle(opened.bundle, ProfileOptions(THREADS, TimingOptions(1.0)))
    print(f"layers: in a profile, {found.facts()[-2][1]}")
    started = time.process_time()
    text = page(_of_many(found))
    made = (time.process_time() - started) * 1e3
    print(f"page: {len(text.encode()) / 1e6:.2f} MB for {KERNELS} kernels, made in {made:.0f} ms")
    browser = shutil.which("chromium")
    if browser is None:
        print("page: there is no chromium here to open it")
        return
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME, encoding="utf-8")
    (folder / "bare.html").write_text(BARE, encoding="utf-8")
    loads, spent = [], []
    for _ in range(5):
        dumped, _ = _browsed(browser, folder, "frame.html", "--dump-dom")
        loads += [float(ms) for ms in re.findall(r'data-ms="([\d.]+)"', dumped)]
        seconds = [_browsed(browser, folder, name, "--screenshot")[1] for name in ("bare.html", "report.html")]  # fmt: skip
        spent.append(seconds[1] - seconds[0])
    loaded = f"{statistics.median(loads):.0f} ms" if loads else "nothing that it told"
    print(
        f"page: loaded in {loaded} by a headless Chromium, which draws it for {statistics.median(spent):.2f} s of processor "
        f"time more than an empty page; load {os.getloadavg()[0]:.1f}"
    )


def _of_many(found: Profile) -> Profile:
    """The same kernels, again and again."""
    (file,) = found.kernels
    times = math.ceil(KERNELS / len(file.kernels))
    return replace(found, kernels=(replace(file, kernels=(file.kernels * times)[:KERNELS]),))


def _browsed(browser: str, folder: Path, name: str, *options: str) -> tuple[str, float]:
    """What it printed, and the seconds of processor time of all its processes."""

    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = children()
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}", *options,
        (folder / name).as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.stdout, children() - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenet-v2")
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--bundle", type=Path, help="that exists, of one ONNX file")
    parser.add_argument("--repeats", type=int, default=100, help="pairs of profiles")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=300, help="of stretches")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(options.once, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(options.bundle) if options.bundle else _exported(options, Path(folder))
        opened = open_for_measuring(bundle, Sessions(THREADS))
        warm_up(opened.timed(), 2.0)
        overhead(opened, options.pairs)
        layers(opened)
        whole_page(opened, Path(folder))
        agreement(bundle.path.resolve(), options.repeats, options.seconds)


def _exported(options: argparse.Namespace, folder: Path) -> Bundle:
    height, width = map(int, options.size.split("x"))
    model = edgekit.load(options.model, height=height, width=width)
    return edgekit.export(
        model, target="onnx", output=folder / "bundle", simplify=False, verify=False
    )


if __name__ == "__main__":
    main()
