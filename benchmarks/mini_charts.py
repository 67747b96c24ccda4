"""Pictures of what mini_ablations.py measured: quality against work, and against training.

python benchmarks/mini_charts.py RUNS docs/mini-pareto.png docs/mini-training.png
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.plan.picture import (
    FAINT,
    GRID,
    HEIGHT,
    INK,
    PLAN_LINE,
    WHOLE_LINE,
    WIDTH,
    Line,
    Polygon,
    Shape,
    Words,
    png,
)

LEFT, RIGHT, TOP, BOTTOM = 92.0, 40.0, 70.0, 74.0
RECIPE_STEPS = 16_900
"""Of models/distillation/turbo-vaed-mini.toml, which the shipped student took."""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    label: str
    colour: str = INK
    is_below: bool = False
    """Where its label stands."""


@dataclass(frozen=True)
class Chart:
    title: str
    across: str
    points: Sequence[Point]
    joined: Sequence[Sequence[Point]]
    ticks: Sequence[float]
    """Of the horizontal axis, which is logarithmic."""

    def x(self, value: float) -> float:
        low, high = (math.log(end) for end in (self.ticks[0], self.ticks[-1]))
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.rows[0], self.rows[-1]
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)

    @property
    def rows(self) -> list[int]:
        values = [point.y for point in self.points]
        low, high = math.floor(min(values) - 0.8), math.ceil(max(values) + 0.2)
        step = 1 if high - low <= 12 else 2
        return list(range(low - low % step, high + step, step))

    def shapes(self) -> list[Shape]:
        made: list[Shape] = [Polygon(((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)), "#ffffff")]
        made.append(Words(24, 28, self.title, 17))
        for row in self.rows:
            made.append(Line(((LEFT, self.y(row)), (WIDTH - RIGHT, self.y(row))), GRID))
            made.append(Words(LEFT - 10, self.y(row), str(row), 13, FAINT, "end"))
        floor = HEIGHT - BOTTOM
        for tick in self.ticks:
            made.append(Line(((self.x(tick), TOP), (self.x(tick), floor)), GRID))
            made.append(Words(self.x(tick), floor + 18, f"{tick:,g}", 13, FAINT, "middle"))
        made.append(Line(((LEFT, floor), (WIDTH - RIGHT, floor)), FAINT, 1.5))
        made.append(Words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22, self.across, 14, INK, "middle"))
        made.append(
            Words(26, (TOP + floor) / 2, "PSNR of held-out frames, dB", 14, INK, "middle", True)
        )
        for line in self.joined:
            corners = tuple((self.x(point.x), self.y(point.y)) for point in line)
            made.append(Line(corners, PLAN_LINE, 2.0))
        for point in self.points:
            made += self._dot(point)
        return made

    def _dot(self, point: Point) -> list[Shape]:
        x, y = self.x(point.x), self.y(point.y)
        dot = Polygon(((x - 6, y), (x, y - 6), (x + 6, y), (x, y + 6)), point.colour)
        anchor = "end" if x > WIDTH - 260 else "start"
        side = -12 if anchor == "end" else 12
        return [dot, Words(x + side, y + (16 if point.is_below else -12), point.label, 13, point.colour, anchor)]  # fmt: skip


def front(points: Sequence[Point]) -> list[Point]:
    """Those than which none of less work is better."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def pareto(told: dict[str, Any]) -> Chart:
    labels = {"width-050": "half the width", "width-075": "three quarters", "recipe": "the recipe", "blocks-5": "two more blocks"}  # fmt: skip
    short = [
        Point(told[name]["gmac"], told[name]["psnr"], label, PLAN_LINE, name == "blocks-5")
        for name, label in labels.items()
        if name in told
    ]
    steps = told["recipe"]["steps"]
    shipped, teacher = anchors(told, "gmac")
    return Chart(
        f"turbo-vaed-mini: quality and work; blue: {steps} steps each, the front of them joined",
        "GMAC a frame at 256x256",
        [*short, shipped, teacher],
        [front(short)],
        (1, 2, 4, 8, 16, 24),
    )


def training(told: dict[str, Any]) -> Chart:
    names = ("steps-half", "recipe", "steps-double", "steps-four")
    done = [told[name] for name in names if name in told]
    runs = [
        Point(one["steps"], one["psnr"], f"{one['steps']} steps", PLAN_LINE, True) for one in done
    ]
    shipped, teacher = anchors(told, "gmac")
    shipped = Point(RECIPE_STEPS, shipped.y, shipped.label, WHOLE_LINE, True)
    teacher = Point(RECIPE_STEPS, teacher.y, teacher.label, INK)
    return Chart(
        "turbo-vaed-mini: quality and training; blue: on 256 pictures of 96 pixels",
        "steps",
        [*runs, shipped, teacher],
        [runs],
        (100, 300, 1000, 3000, 10_000, 20_000),
    )


def anchors(told: dict[str, Any], across: str) -> tuple[Point, Point]:
    shipped, teacher = told["shipped"], told["teacher"]
    return (
        Point(shipped[across], shipped["psnr"], f"the shipped student, {shipped['psnr']:.2f} dB", WHOLE_LINE),
        Point(teacher[across], teacher["psnr"], f"the teacher, {teacher['psnr']:.2f} dB"),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name in ("runs", "pareto", "training"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args()
    told = {path.stem: json.loads(path.read_text()) for path in asked.runs.glob("*.json")}
    for chart, path in ((pareto(told), asked.pareto), (training(told), asked.training)):
        png(chart.shapes()).save(path, format="PNG", optimize=True)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
