"""The curves of a run, as a PNG: losses, validation and throughput over all its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.plan.picture import HEIGHT, WIDTH, Line, Polygon, Shape, Words, png

INK, FAINT, GRID = "#1f2933", "#66727f", "#e3e7eb"
COLOURS = ("#1d6fa5", "#c8553d", "#4c8c4a", "#8a5ea8", "#b8860b", "#4a4a4a", "#2a9d8f", "#d1689b")
LEFT, RIGHT, TOP, BOTTOM, GAP = 76.0, 24.0, 104.0, 52.0, 84.0
MOST_POINTS = 400

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    title: str
    series: Mapping[str, Points]
    left: float = 0.0
    right: float = 0.0
    is_logarithmic: bool = False
    begins_at_zero: bool = False


@dataclass(frozen=True)
class _Scale:
    """Values on an axis as pixels from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        return self.begin + (self.end - self.begin) * (value - self.low) / (self.high - self.low)


def draw_curves(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture of metrics.jsonl's records, if there are any to draw."""
    if not records:
        return
    starts = _starts(records)
    losses: dict[str, Points] = {}
    validation: dict[str, Points] = {}
    speed: dict[str, Points] = {}
    for record in records:
        x = starts[record["stage"]] + record["step"]
        for name, value in record.get("losses", {}).items():
            losses.setdefault(name, []).append((x, value))
        for name, value in record.get("validation", {}).items():
            if value is not None:
                validation.setdefault(name, []).append((x, value))
        if "frames_per_second" in record:
            speed.setdefault("frames/s", []).append((x, record["frames_per_second"]))
    # Metrics of different units do not share an axis: each is a panel, of which three have room.
    shown = [Panel("losses, logarithmic", losses, is_logarithmic=True)]
    shown += [Panel(f"validation: {n}", {n: points}) for n, points in validation.items()][:2]
    if len(shown) < 3:
        shown.append(Panel("frames per second", speed, begins_at_zero=True))
    total = WIDTH - LEFT - RIGHT - GAP * (len(shown) - 1)
    widths = [total * share / (len(shown) + 1) for share in (2, *[1] * (len(shown) - 1))]
    shapes: list[Shape] = [Polygon(((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)), "#ffffff")]
    left = LEFT
    for panel, width in zip(shown, widths):
        shapes += _panel(replace(panel, left=left, right=left + width), starts)
        left += width + GAP
    partial = path.with_name(f".{path.name}.partial")
    png(shapes).save(partial, format="PNG")
    partial.replace(path)


def _starts(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Stages follow one another on the axis: the step at which each one begins."""
    starts: dict[str, int] = {}
    begin, last = 0, 0
    for record in records:
        if record["stage"] not in starts:
            begin = last
            starts[record["stage"]] = begin
        last = begin + record["step"]
    return starts


def _panel(panel: Panel, starts: Mapping[str, int]) -> list[Shape]:
    change = math.log10 if panel.is_logarithmic else float
    series = {
        name: [(x, change(y)) for x, y in points if math.isfinite(y) and (y > 0 or not panel.is_logarithmic)]
        for name, points in panel.series.items()
    }  # fmt: skip
    drawn = [point for points in series.values() for point in points]
    shapes: list[Shape] = [Words(panel.left, 24, panel.title, 16)]
    if not drawn:
        return [*shapes, Words(panel.left, TOP, "nothing yet", 13, FAINT)]
    across = _Scale(0, max(x for x, _ in drawn) or 1, panel.left, panel.right)
    up = _fitted([y for _, y in drawn] + [0.0] * panel.begins_at_zero)
    for value in _ticks(up.low, up.high):
        y = up(value)
        label = f"{10**value:.2g}" if panel.is_logarithmic else f"{value:.4g}"
        shapes.append(Line(((panel.left, y), (panel.right, y)), GRID))
        shapes.append(Words(panel.left - 8, y, label, 12, FAINT, "end"))
    for stage, begin in starts.items():
        x = across(begin)
        if begin and x < panel.right:
            shapes.append(Line(((x, TOP), (x, HEIGHT - BOTTOM)), FAINT))
        if panel.is_logarithmic and panel.right - x > 60:
            shapes.append(Words(x + 4, TOP - 8, stage, 12, FAINT))
    floor = HEIGHT - BOTTOM
    shapes.append(Line(((panel.left, floor), (panel.right, floor)), FAINT, 1.5))
    shapes += [
        Words(across(value), floor + 16, f"{value:g}", 12, FAINT, "middle")
        for value in _ticks(0, across.high)
    ]
    shapes.append(Words((panel.left + panel.right) / 2, HEIGHT - 14, "steps", 13, INK, "middle"))
    place, row = panel.left, 0
    for (name, points), colour in zip(series.items(), COLOURS * (1 + len(series) // len(COLOURS))):
        for run in _unbroken(points, sorted(starts.values())):
            line = tuple((across(x), up(y)) for x, y in _thinned(run))
            shapes.append(Line(line, colour, 2.0) if len(line) > 1 else _dot(*line[0], colour))
        if len(panel.series) > 1:
            if place > panel.left and place + 24 + 7.2 * len(name) > panel.right:
                place, row = panel.left, row + 1
            y = 48.0 + 18 * row
            shapes.append(Line(((place, y), (place + 18, y)), colour, 3.0))
            shapes.append(Words(place + 24, y, name, 13))
            place += 24 + 7.2 * len(name) + 22
    return shapes


def _dot(x: float, y: float, colour: str) -> Polygon:
    return Polygon(((x - 3, y), (x, y - 3), (x + 3, y), (x, y + 3)), colour)


def _fitted(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.1)
    return _Scale(low - room if low else 0.0, high + room, HEIGHT - BOTTOM, TOP)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers within."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough)
    first = math.ceil(low / step)
    return [round(step * n, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _unbroken(points: Points, starts: Sequence[int]) -> list[Points]:
    """A loss of two stages is two lines: it may be another thing under the same name."""
    runs: list[Points] = []
    stage = -1
    for point in points:
        own = sum(point[0] > start for start in starts)
        if own != stage:
            runs.append([])
            stage = own
        runs[-1].append(point)
    return runs


def _thinned(points: Points) -> Points:
    """Means of neighbours, so that a long run has no more points than can be seen."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[n : n + size] for n in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]
