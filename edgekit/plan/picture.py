"""A picture of live activation bytes over the steps of a network: whole, and by a plan.

Laid out once as rectangles, lines and words in pixels; written as SVG, or drawn as PNG with Pillow at
twice the size and reduced, which smooths what Pillow draws without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

from edgekit.errors import MissingEnvironmentError
from edgekit.plan.memory import Timeline

WIDTH, HEIGHT = 1200, 560
LEFT, RIGHT, TOP, BOTTOM = 92, 28, 104, 62
INK, FAINT, GRID = "#1f2933", "#66727f", "#e3e7eb"
WHOLE_LINE, WHOLE_FILL = "#c8553d", "#f6ddd6"
PLAN_LINE, PLAN_FILL = "#1d6fa5", "#bfdcee"
STRETCH = ("#f4f6f8", "#eaeef2")
SMOOTHING = 2
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))


@dataclass(frozen=True)
class Polygon:
    points: tuple[tuple[float, float], ...]
    colour: str


@dataclass(frozen=True)
class Line:
    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


@dataclass(frozen=True)
class Words:
    x: float
    y: float
    """Of the middle of the letters."""
    text: str
    size: int = 14
    colour: str = INK
    anchor: str = "start"
    """start, middle or end: where in the text x is."""
    is_upright: bool = False
    """Read from bottom to top."""


Shape = Polygon | Line | Words


def drawing(
    whole: Timeline,
    planned: Sequence[int],
    stretches: Sequence[tuple[int, int, str]],
    name: str,
    elements: str,
) -> list[Shape]:
    """Everything in the picture, in the order of painting.

    `planned` holds bytes per step of `whole`, or nothing; `stretches` the first step, the last one and
    a label of each tiled stretch.
    """
    live = [step.live_bytes for step in whole.steps]
    high = max([*live, *planned, 1])
    # Four of a unit at least, so that the axis has whole numbers; room for the peak's label above it.
    divisor, unit = next((size, unit) for size, unit in UNITS if high >= 4 * size or size == 1)
    ticks = _ticks(1.12 * high / divisor)
    chart = _Chart(len(live), ticks[-1] * divisor)
    shapes: list[Shape] = [Polygon(((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)), "#ffffff")]
    for number, (first, last, label) in enumerate(stretches):
        shapes += _stretch(chart, first, last, label, STRETCH[number % 2])
    for tick in ticks:
        y = chart.y(tick * divisor)
        shapes.append(Line(((LEFT, y), (WIDTH - RIGHT, y)), GRID))
        shapes.append(Words(LEFT - 10, y, f"{tick:g}", 13, FAINT, "end"))
    shapes.append(
        Words(24, (TOP + HEIGHT - BOTTOM) / 2, f"live activations, {unit}", 14, INK, "middle", True)
    )
    for step in _ticks(len(live) - 1)[:-1] if len(live) > 1 else [0.0]:
        x = chart.x(step + 0.5)
        shapes.append(Line(((x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 5)), FAINT))
        shapes.append(Words(x, HEIGHT - BOTTOM + 18, f"{step:g}", 13, FAINT, "middle"))
    shapes.append(
        Words(
            (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - 18,
            "operators in the order of execution",
            14,
            INK,
            "middle",
        )
    )
    shapes += _series(chart, live, WHOLE_LINE, WHOLE_FILL)
    if planned:
        shapes += _series(chart, planned, PLAN_LINE, PLAN_FILL)
    shapes.append(Line(((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)), FAINT, 1.5))
    peak = live.index(max(live))
    shapes += _peak(chart, live, peak, f"{_size(live[peak])} at {whole.steps[peak].operator} '{whole.steps[peak].name}'", WHOLE_LINE)  # fmt: skip
    if planned:
        most = list(planned).index(max(planned))
        shapes += _peak(chart, planned, most, f"{_size(planned[most])} at '{whole.steps[most].name}'", PLAN_LINE)  # fmt: skip
    shapes += _heading(whole, planned, bool(stretches), name, elements)
    return shapes


@dataclass(frozen=True)
class _Chart:
    """Steps and bytes as pixels. Step n is as wide as from n to n + 1."""

    steps: int
    high: float

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def y(self, count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / self.high


def _ticks(high: float) -> list[float]:
    """Round numbers from 0 to the first one that `high` does not pass."""
    power = 10.0 ** (len(str(int(high))) - 1) if high >= 1 else 0.1
    step = next(s * power for s in (0.1, 0.2, 0.25, 0.4, 0.5, 1, 2, 5, 10) if high <= 6 * s * power)
    return [step * index for index in range(int(-(-high // step)) + 1)]


def _stretch(chart: _Chart, first: int, last: int, label: str, colour: str) -> list[Shape]:
    left, right = chart.x(first + 1 if first else 0), chart.x(last + 1)
    box = ((left, TOP), (right, TOP), (right, HEIGHT - BOTTOM), (left, HEIGHT - BOTTOM))
    shapes: list[Shape] = [Polygon(box, colour)]
    grid = label.split(" ")[0]
    for text in (f"{grid} streamed" if "streaming" in label else grid, grid):
        if right - left > _length(text, 12) + 8:
            shapes.append(Words((left + right) / 2, TOP + 12, text, 12, FAINT, "middle"))
            break
    return shapes


def _series(chart: _Chart, counts: Sequence[int], line: str, fill: str) -> list[Shape]:
    corners: list[tuple[float, float]] = []
    for step, count in enumerate(counts):
        corners += [(chart.x(step), chart.y(count)), (chart.x(step + 1), chart.y(count))]
    ground = [(corners[-1][0], chart.y(0)), (corners[0][0], chart.y(0))]
    return [Polygon((*corners, *ground), fill), Line(tuple(corners), line, 2.0)]


def _peak(chart: _Chart, counts: Sequence[int], step: int, text: str, colour: str) -> list[Shape]:
    x, y = chart.x(step + 0.5), chart.y(counts[step])
    room = _length(text, 13)
    anchor = "start" if x + room + 20 < WIDTH - RIGHT else "end"
    away = 14 if anchor == "start" else -14
    tip = ((x, y - 2), (x + away * 0.7, y - 12))
    # White behind the letters: they stay readable over stretches and lines.
    left = x + away - (0 if anchor == "start" else room) - 4
    right = left + room + 8
    back = ((left, y - 24), (right, y - 24), (right, y - 5), (left, y - 5))
    return [
        Polygon(back, "#ffffff"),
        Line(tip, colour, 1.5),
        Words(x + away, y - 14, text, 13, colour, anchor),
    ]


def _heading(
    whole: Timeline, planned: Sequence[int], has_stretches: bool, name: str, elements: str
) -> list[Shape]:
    sizes = "x".join(map(str, whole.steps[0].shape))
    shapes: list[Shape] = [Words(LEFT, 30, f"{name}, {sizes}, {elements} elements", 20)]
    x = float(LEFT)
    entries = [("whole network", WHOLE_LINE, WHOLE_FILL)]
    if planned:
        times = max(step.live_bytes for step in whole.steps) / max(1, *planned)
        entries.append((f"planned, fullest tile: {times:.1f} times less", PLAN_LINE, PLAN_FILL))
    if has_stretches:
        entries.append(("stretch run in tiles (rows x columns)", GRID, STRETCH[1]))
    for text, line, fill in entries:
        box = ((x, 60), (x + 22, 60), (x + 22, 74), (x, 74))
        shapes += [Polygon(box, fill), Line((*box, box[0]), line, 1.5), Words(x + 30, 67, text, 14)]
        x += 30 + _length(text, 14) + 28
    return shapes


def _length(text: str, size: int) -> float:
    """Pixels across, in the font of the PNG, which is about as wide as those of an SVG."""
    return float(ImageFont.load_default(size).getlength(text))


def _size(count: int) -> str:
    divisor, unit = next((size, unit) for size, unit in UNITS if count >= 4 * size or size == 1)
    return f"{count / divisor:.1f} {unit}" if divisor > 1 else f"{count} bytes"


def draw(shapes: Sequence[Shape], path: Path) -> None:
    """Write the picture as SVG or PNG, as the file's name ends.

    Raises MissingEnvironmentError where it cannot be written.
    """
    try:
        if path.suffix.lower() == ".svg":
            path.write_text(svg(shapes), encoding="utf-8")
        else:
            png(shapes).save(path)
    except OSError as error:
        raise MissingEnvironmentError(
            f"{path} cannot be written: {error.strerror or error}; give another name with --picture."
        ) from error


def svg(shapes: Sequence[Shape]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">'
    ]
    for shape in shapes:
        if isinstance(shape, Words):
            turn = f' transform="rotate(-90 {shape.x:g} {shape.y:g})"' if shape.is_upright else ""
            lines.append(
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" dy="0.35em" font-size="{shape.size}" '
                f'fill="{shape.colour}" text-anchor="{shape.anchor}"{turn}>{escape(shape.text)}</text>'
            )
            continue
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        if isinstance(shape, Polygon):
            lines.append(f'<polygon points="{points}" fill="{shape.colour}"/>')
        else:
            lines.append(
                f'<polyline points="{points}" fill="none" stroke="{shape.colour}" '
                f'stroke-width="{shape.width:g}" stroke-linejoin="round"/>'
            )
    return "\n".join([*lines, "</svg>", ""])


def png(shapes: Sequence[Shape]) -> Image.Image:
    scale = 2 * SMOOTHING
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "#ffffff")
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        if isinstance(shape, Words):
            _write(image, pen, shape, scale)
            continue
        points = [(x * scale, y * scale) for x, y in shape.points]
        if isinstance(shape, Polygon):
            pen.polygon(points, fill=shape.colour)
        else:
            pen.line(points, fill=shape.colour, width=round(shape.width * scale), joint="curve")
    return image.resize((WIDTH * 2, HEIGHT * 2), Image.Resampling.LANCZOS)


def _write(image: Image.Image, pen: ImageDraw.ImageDraw, words: Words, scale: int) -> None:
    font = ImageFont.load_default(words.size * scale)
    anchor = {"start": "l", "middle": "m", "end": "r"}[words.anchor] + "m"
    if not words.is_upright:
        place = (words.x * scale, words.y * scale)
        pen.text(place, words.text, fill=words.colour, font=font, anchor=anchor)
        return
    length, high = int(font.getlength(words.text)) + scale, words.size * scale * 2
    label = Image.new("RGB", (length, high), "#ffffff")
    ImageDraw.Draw(label).text(
        (length / 2, high / 2), words.text, fill=words.colour, font=font, anchor="mm"
    )
    turned = label.rotate(90, expand=True)
    image.paste(turned, (int(words.x * scale - high / 2), int(words.y * scale - length / 2)))
