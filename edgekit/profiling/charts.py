"""Pictures of a profile as SVG: plain elements and colours that a style sheet gives, no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edgekit.plan.choose import in_units
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.kernels import Kernel, Kernels
from edgekit.profiling.roofline import Roofline

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 40
BINS = 60
MOST_POINTS = 1500
"""Of a scatter: more make the file large and show nothing."""
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    title: str
    is_logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        low, high = self._on_scale(self.low), self._on_scale(self.high)
        return (self._on_scale(value) - low) / max(high - low, 1e-12)

    def ticks(self) -> list[float]:
        if self.is_logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [10.0**n for n in powers if self.low <= 10.0**n <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step)
        return [step * n for n in range(first, math.floor(self.high / step) + 1)]

    def _on_scale(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.is_logarithmic else value


def histogram(latency: Distribution) -> str:
    """How many runs took how long, up to the 99th percentile and a bit; beyond it they are counted in the last bar."""
    samples = np.asarray(latency.samples)
    low, high = (
        float(samples.min()),
        max(latency.percentile(99) * 1.05, float(samples.min()) * 1.01),
    )
    counts, edges = np.histogram(np.minimum(samples, high), BINS, (low, high))
    x, y = Axis(low, high, "ms"), Axis(0, float(counts.max()), "runs")
    bars = [
        _bar(x, y, start, stop, float(count), f"{count} runs of {start:.3f} to {stop:.3f} ms")
        for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    marks = [
        _mark(x, latency.percentile(share), f"p{share}", number)
        for number, share in enumerate((50, 90, 99))
    ]
    return _chart(x, y, [*bars, *marks], "latency of the runs")


def over_time(latency: Distribution) -> str:
    """Each run in its order: drift, and what disturbs."""
    samples = latency.samples
    step = max(1, math.ceil(len(samples) / MOST_POINTS))
    x = Axis(0, max(1, len(samples) - 1), "run")
    y = Axis(0, max(latency.percentile(99) * 1.2, 1e-6), "ms")
    dots = [
        f'<circle class="dot" cx="{_x(x, n):.1f}" cy="{_y(y, min(samples[n], y.high)):.1f}" r="{1.3 if len(samples) > 200 else 3}"/>'
        for n in range(0, len(samples), step)
    ]
    return _chart(x, y, dots, "latency over the runs")


def ceilings(roofline: Roofline, files: Sequence[Kernels]) -> str:
    """Each kernel that multiplies, under what memory and multipliers allow."""
    kernels = [kernel for file in files for kernel in file.kernels if kernel.macs and kernel.p50_ms]
    ridge, top = roofline.ridge_macs_per_byte, roofline.gmacs_per_s
    intensities = [_intensity(kernel) for kernel in kernels]
    low, high = min([ridge / 30, *intensities]) / 1.5, max([ridge * 30, *intensities]) * 1.5
    rates = [kernel.gmacs_per_s for kernel in kernels]
    x = Axis(low, high, "multiply-accumulates per byte", is_logarithmic=True)
    y = Axis(
        min([top / 300, *rates]) / 1.5, max([top, *rates]) * 1.5, "GMAC/s", is_logarithmic=True
    )
    start = max(low, y.low / roofline.gbytes_per_s)
    points = [(start, start * roofline.gbytes_per_s), (ridge, top), (high, top)]
    roof = " ".join(f"{_x(x, a):.1f},{_y(y, b):.1f}" for a, b in points)
    dots = [
        f'<circle class="dot" cx="{_x(x, intensity):.1f}" cy="{_y(y, kernel.gmacs_per_s):.1f}" r="3">'
        f"<title>{escape(kernel.module or kernel.name)}: {kernel.gmacs_per_s:.1f} GMAC/s</title></circle>"
        for kernel, intensity in zip(kernels, intensities, strict=True)
    ]
    return _chart(x, y, [f'<polyline class="roof" points="{roof}"/>', *dots], "roofline")


def memory(file: Kernels) -> str:
    """What the runtime had in use after each kernel of a run; "" where it does not tell."""
    live = [kernel.live_bytes for kernel in file.kernels]
    if not live or any(count is None for count in live):
        return ""
    ends = np.cumsum([kernel.p50_ms for kernel in file.kernels])
    counts = [float(count or 0) for count in live]
    x = Axis(0, float(ends[-1]) or 1.0, "ms")
    unit, name = (2**20, "MiB") if max(counts) >= 2**20 else (2**10, "KiB")
    y = Axis(0, max(max(counts), 1.0) / unit, f"{name} in use")
    starts = [0.0, *map(float, ends[:-1])]
    bars = [
        _bar(x, y, start, float(stop), count / unit,
             f"{kernel.module or kernel.name} ({kernel.operator}): {in_units(round(count))}")
        for kernel, start, stop, count in zip(file.kernels, starts, ends, counts, strict=True)
    ]  # fmt: skip
    return _chart(x, y, bars, f"memory over a run of {file.file}")


def _intensity(kernel: Kernel) -> float:
    return kernel.macs / max(1, kernel.moved_bytes)


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, no smaller."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _bar(x: Axis, y: Axis, start: float, stop: float, height: float, told: str) -> str:
    left, top = _x(x, start), _y(y, height)
    width = max(0.6, _x(x, stop) - left - 0.4)
    return (
        f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{escape(told)}</title></rect>'
    )


def _mark(x: Axis, value: float, name: str, number: int) -> str:
    """Names that are near each other stand one below the other."""
    at = _x(x, value)
    return (
        f'<line class="mark" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="name" x="{at + 3:.1f}" y="{TOP + 9 + 12 * number}">{name}</text>'
    )


def _chart(x: Axis, y: Axis, inside: Sequence[str], title: str) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in y.ticks():
        at = _y(y, value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in x.ticks():
        at = _x(x, value)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{floor + 15}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}"/>')
    parts.append(
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x.title)}</text>'
    )
    parts.append(f'<text class="tick" x="4" y="{TOP - 2}">{escape(y.title)}</text>')
    return "".join([*parts, *inside, "</svg>"])
