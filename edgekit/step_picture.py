"""A picture of a model's compression: time or size across, quality upwards, a dot for each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edgekit.compressing import Step
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
    draw,
)

LEFT, RIGHT, TOP, BOTTOM = 92.0, 60.0, 70.0, 74.0
DOT = 6.0
EXACT_DB = 60.0
"""A quality beyond this is drawn here: the float file itself has none that is finite."""
ROW_DB = 10


def write_picture(title: str, steps: Sequence[Step], path: Path) -> None:
    """PNG or SVG. Raises UsageError for another suffix."""
    draw(shapes(title, steps), path)


def shapes(title: str, steps: Sequence[Step]) -> list[Shape]:
    """Milliseconds across where all were timed, else megabytes of files; PSNR of the first output upwards."""
    timed = [step.milliseconds for step in steps if step.milliseconds is not None]
    is_timed = len(timed) == len(steps)
    across = timed if is_timed else [step.quality.file_bytes / 1e6 for step in steps]
    up = [min(EXACT_DB, step.quality.outputs[0].psnr_db) for step in steps]
    widest, (low, high) = max(across) * 1.15, _rows(up)
    floor = HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / widest

    def y(value: float) -> float:
        return floor - (floor - TOP) * (value - low) / (high - low)

    made: list[Shape] = [Polygon(((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)), "#ffffff")]
    made.append(Words(24, 28, title, 17))
    for row in range(low, high + ROW_DB, ROW_DB):
        made.append(Line(((LEFT, y(row)), (WIDTH - RIGHT, y(row))), GRID))
        made.append(Words(LEFT - 10, y(row), str(row), 13, FAINT, "end"))
    step = _round_step(widest)
    columns = [step * number for number in range(int(widest / step) + 1)]
    made += [Words(x(column), floor + 18, f"{column:g}", 13, FAINT, "middle") for column in columns]
    made.append(Line(((LEFT, floor), (WIDTH - RIGHT, floor)), FAINT, 1.5))
    unit = "milliseconds of a run" if is_timed else "megabytes of files"
    made.append(Words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22, unit, 14, INK, "middle"))
    side = f"PSNR against the float model, dB ({EXACT_DB:g} and more as {EXACT_DB:g})"
    made.append(Words(26, (TOP + floor) / 2, side, 14, INK, "middle", True))
    corners = tuple((x(a), y(b)) for a, b in zip(across, up))
    made.append(Line(corners, FAINT, 1.0))
    for shown, (left, top) in zip(steps, corners):
        colour = PLAN_LINE if shown is steps[-1] else WHOLE_LINE if shown is steps[0] else INK
        diamond = ((left - DOT, top), (left, top - DOT), (left + DOT, top), (left, top + DOT))
        made.append(Polygon(diamond, colour))
        anchor = "end" if left > WIDTH - 260 else "start"
        shift = -12 if anchor == "end" else 12
        made.append(Words(left + shift, top - 12, shown.name, 13, colour, anchor))
    return made


def _rows(values: Sequence[float]) -> tuple[int, int]:
    """Ends of an axis in tens of decibels."""
    low = ROW_DB * math.floor(min(values) / ROW_DB)
    high = ROW_DB * math.ceil(max(values) / ROW_DB)
    return low, max(high, low + ROW_DB)


def _round_step(widest: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that is made 4 to 10 times."""
    power = 10.0 ** math.floor(math.log10(widest / 4))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= widest / 4)
