"""edgekit run --image: boxes of a picture, printed and drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.output import print_json, progress
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.report import aligned

if TYPE_CHECKING:
    from PIL import Image

    from edgekit.detection.detections import Detections
    from edgekit.detection.detector import Detector

DRAWN = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class ImageOptions:
    image: Path
    output: Path | None
    """None: beside nothing, in the current folder, named after the picture."""
    score: float | None
    iou: float | None
    weights: str | None
    force: bool
    filter: str | None = None
    """Of a bundle's hallucinations."""
    reduced_decode: bool = False


def run_image(name: str, options: ImageOptions, *, json: bool) -> None:
    """Of a bundle or a model's name. Raises UsageError."""
    output = _free(options)
    from edgekit.api import detector_of, screening_of
    from edgekit.detection.picture_file import read_picture
    from edgekit.detection.reduced_decode import read_reduced

    with progress("run") as show:
        show("load")
        detector = detector_of(name, options.weights)
        if options.filter is not None:
            detector = replace(detector, screen=screening_of(name, options.filter))
        thresholds = detector.thresholds_for(options.score, options.iou)
        started = time.perf_counter()
        reduced = read_reduced(options.image, detector.contract) if options.reduced_decode else None
        seen = reduced.picture if reduced else read_picture(options.image)
        decoded = time.perf_counter()
        show("detect")
        found = detector(seen, thresholds)
        seconds = time.perf_counter() - decoded
        if reduced:
            found = reduced.to_whole(found)
        picture = read_picture(options.image) if reduced else seen  # to draw on
        _draw(picture, found, detector, output)
    if json:
        print_json(
            {
                "image": {"width": picture.width, "height": picture.height},
                "boxes": found.to_json(detector.boxes.names),
                "score": thresholds.score,
                "iou": thresholds.iou,
                "filter": options.filter,
                "files": [str(output)],
                "seconds": round(seconds, 4),
                "decode_seconds": round(decoded - started, 4),
                "decoded": {"width": seen.width, "height": seen.height},
            }
        )
        return
    passed = f" that '{options.filter}' accepts" if options.filter else ""
    nothing = f"no box with a score above {thresholds.score:g}{passed}"
    print(_table(found, detector) if len(found) else nothing)
    print(f"wrote {output}")
    if reduced:
        print(
            f"decoded at {seen.width} x {seen.height} in {(decoded - started) * 1000:.0f} ms, of {picture.width} x {picture.height}"
        )
    print(f"from picture to boxes took {seconds * 1000:.0f} ms")


def _free(options: ImageOptions) -> Path:
    output = options.output or Path(f"{options.image.stem}-boxes.png")
    if output.suffix.lower() not in DRAWN:
        raise UsageError(
            f"'{output}' is no name of a picture: -o takes one that ends in {', '.join(DRAWN)}."
        )
    if output.exists() and options.image.exists() and output.samefile(options.image):
        raise UsageError(f"{output} is the picture itself; choose another place with -o.")
    if output.exists() and not options.force:
        raise UsageError(
            f"{output} exists; choose another place with -o, or replace it with --force."
        )
    return output


def _draw(picture: Image.Image, found: Detections, detector: Detector, output: Path) -> None:
    from edgekit.detection.drawing import drawn

    try:
        drawn(picture, found, detector.boxes.names).save(output)
    except OSError as error:
        output.unlink(missing_ok=True)
        raise MissingEnvironmentError(
            f"{output} cannot be written: {error.strerror or error}; choose another place with -o."
        ) from error


def _table(found: Detections, detector: Detector) -> str:
    from edgekit.detection.detections import name_of

    rows: list[tuple[str, ...]] = [("class", "score", "x1", "y1", "x2", "y2")]
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        name = name_of(detector.boxes.names, int(label))
        rows.append((name, f"{score:.2f}", *(f"{side:.1f}" for side in box)))
    return aligned(rows)
