"""Boxes drawn on a picture, with labels that can be read."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from edgekit.detection.detections import Detections, name_of

Colour = tuple[int, int, int]
Frame = tuple[float, float, float, float]
GOLDEN_TURN = 0.61803398875
"""Of the colour circle from one class to the next: no two near ones look alike."""


def drawn(picture: Image.Image, found: Detections, names: Sequence[str]) -> Image.Image:
    """A copy of the RGB picture with every box and its label; the best lie on top."""
    canvas = picture.convert("RGB")
    pen = ImageDraw.Draw(canvas)
    side = (canvas.width * canvas.height) ** 0.5
    line = max(2, round(side / 300))
    font = ImageFont.load_default(max(11, round(side / 50)))
    for row in reversed(range(len(found))):
        left, top, right, bottom = (float(value) for value in found.boxes[row])
        box = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(_grown(box, 1), outline=(0, 0, 0), width=line + 2)
        pen.rectangle(box, outline=class_colour(int(found.labels[row])), width=line)
    taken: list[Frame] = []
    for row in range(len(found)):
        label = int(found.labels[row])
        text = f"{name_of(names, label)} {found.scores[row]:.2f}"
        left, top, right, bottom = (float(value) for value in found.boxes[row])
        frame = _free_place(
            (left, top, right, bottom), _text_size(pen, text, font, line), canvas, taken
        )
        taken.append(frame)
        colour = class_colour(label)
        pen.rectangle(frame, fill=colour)
        middle = (frame[0] + line + 1, (frame[1] + frame[3]) / 2)
        pen.text(middle, text, fill=_ink(colour), font=font, anchor="lm")
    return canvas


def class_colour(label: int) -> Colour:
    """Saturated and neither black nor white; lighter and darker by turns."""
    lightness = (0.55, 0.42, 0.66)[label % 3]
    rgb = colorsys.hls_to_rgb((0.98 + label * GOLDEN_TURN) % 1.0, lightness, 0.85)
    red, green, blue = (round(255 * value) for value in rgb)
    return red, green, blue


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever stands out more."""
    red, green, blue = colour
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return (0, 0, 0) if light > 140 else (255, 255, 255)


def _text_size(
    pen: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    line: int,
) -> tuple[float, float]:
    _, top, _, bottom = pen.textbbox((0, 0), "Ag0", font=font)
    return pen.textlength(text, font=font) + 2 * line + 2, bottom - top + 2 * line


def _free_place(
    box: Frame, size: tuple[float, float], canvas: Image.Image, taken: Sequence[Frame]
) -> Frame:
    """Where a label lies within the picture and on no other one: the first that does, else the first."""
    places = [_within(place, size, canvas) for place in _places(box, size)]
    free = (frame for frame in places if not any(_meet(frame, other) for other in taken))
    return next(free, places[0])


def _places(box: Frame, size: tuple[float, float]) -> Iterator[tuple[float, float]]:
    left, top, right, bottom = box
    width, height = size
    if top >= height:
        yield left, top - height
    for x in (left, right - width):
        yield x, top
        yield x, bottom - height
        yield x, bottom
    yield from ((left, top + step * height) for step in range(1, 6))


def _within(place: tuple[float, float], size: tuple[float, float], canvas: Image.Image) -> Frame:
    x = max(0.0, min(place[0], canvas.width - size[0]))
    y = max(0.0, min(place[1], canvas.height - size[1]))
    return x, y, x + size[0], y + size[1]


def _meet(first: Frame, second: Frame) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _grown(box: Frame, by: float) -> Frame:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
