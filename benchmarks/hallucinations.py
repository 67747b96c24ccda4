"""Hallucinations, FPR95 and mAP of a detector's weights before and after fine-tuning, without and with each filter.

    python tests/fetch_assets.py photographs nature wallpapers stamps
    python benchmarks/make_composites.py composites/
    edgekit distill leyolo-composites --data composites/train --look-alikes composites/look-alikes \\
        --initial before.safetensors -o fine-tuned.run
    python benchmarks/hallucinations.py composites/ before=before.safetensors after=fine-tuned.run/student.safetensors

Filters are calibrated with `calibration`, mAP is that on `held-out`, and hallucinations are the boxes with a
score above the recipe's on `near` and `far`; see make_composites.py. "fewer" and "loss" are against the first
weights without a filter. "mAP" counts a rejected box with a score below the recipe's; "mAP, cut" leaves it out.
With --record the rows are kept for the model's card.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import edgekit
from edgekit.detection.coco_annotations import Annotations, read_annotations
from edgekit.detection.coco_evaluation import (
    LEAST_SCORE,
    MOST_BOXES,
    as_coco,
    as_dataset,
    by_id,
    found_in,
    shared_classes,
)
from edgekit.detection.coco_figures import coco_figures
from edgekit.detection.detections import Detections
from edgekit.detection.detector import Detector, detector_of_model
from edgekit.detection.hallucinations import (
    Screening,
    evidence_of,
    false_positive_rate,
    hallucinations,
)
from edgekit.detection.in_the_file import with_evidence
from edgekit.detection.known_boxes import calibrated, known_boxes
from edgekit.detection.safety import FILTERS, Safety
from edgekit.errors import EdgekitError
from edgekit.measured import Column, Measurement, record, versions_here
from edgekit.recipe import find_recipe
from edgekit.report import aligned, json_number

UNKNOWN = ("near", "far")
COMMAND = "python benchmarks/hallucinations.py composites/"
COLUMNS = (
    Column("near"), Column("far"), Column("fewer", "%"), Column("right boxes kept", "", 3), Column("mAP", "", 3),
    Column("mAP without what is rejected", "", 3), Column("FPR95 near", "", 3), Column("far", "", 3),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    weights: str
    filter: str
    near: int
    """Hallucinations."""
    far: int
    fpr95_near: float
    fpr95_far: float
    kept: float
    """Share of the right boxes of the held-out pictures that the filter accepts; NaN if there are none."""
    ap: float
    ap50: float
    ap_cut: float
    ap50_cut: float


@dataclass(frozen=True)
class Seen:
    """By one set of weights."""

    truth: Annotations
    shared: dict[int, tuple[int, str]]
    held_out: list[Detections]
    unknown: dict[str, list[Detections]]
    safety: Safety

    def row(self, weights: str, name: str) -> Row:
        score = self.safety.score
        screen = Screening(self.safety, name) if name else None
        unknown = {kind: self.unknown[kind] for kind in UNKNOWN}
        rates = dict.fromkeys(UNKNOWN, float("nan"))
        kept = 1.0
        ranked = cut = self.held_out
        if screen is not None:
            shown = [one.above(score) for one in self.held_out]
            known = evidence_of(known_boxes(self.truth, shown, self.shared), score)
            for kind in UNKNOWN:
                seen = evidence_of(unknown[kind], score)
                rates[kind] = false_positive_rate(self.safety, name, known, seen)
            kept = float(np.mean(self.safety.accepts(name, known))) if len(known) else float("nan")
            unknown = {kind: [screen(one) for one in seen] for kind, seen in unknown.items()}
            ranked = [screen.ranked(one) for one in self.held_out]
            cut = [screen(one) for one in self.held_out]
        counts = {kind: hallucinations(seen, score) for kind, seen in unknown.items()}
        (ap, ap50), (ap_cut, ap50_cut) = self._precision(ranked), self._precision(cut)
        return Row(
            weights, name or "none", counts["near"], counts["far"], rates["near"], rates["far"], kept,
            ap, ap50, ap_cut, ap50_cut,
        )  # fmt: skip

    def _precision(self, found: Sequence[Detections]) -> tuple[float, float]:
        results = as_coco(self.truth, found, self.shared)
        figures, _ = coco_figures(as_dataset(self.truth), results, by_id(self.shared))
        return figures[0], figures[1]


def see(detector: Detector, sets: Path, most: int | None, progress: Callable[[str], None]) -> Seen:
    def annotated(name: str) -> Annotations:
        told = read_annotations(sets / name / "annotations.json", sets / name / "pictures")
        images = told.images[:most]
        ids = {image.id for image in images}
        boxes = tuple(box for box in told.boxes if box.image in ids)
        return Annotations(images, told.categories, boxes, told.notes)

    def seen(truth: Annotations, score: float | None) -> list[Detections]:
        thresholds = detector.thresholds_for(score, None, MOST_BOXES)
        return found_in(truth, detector, thresholds, lambda _: None)[0]

    progress("calibration")
    folder = sets / "calibration"
    safety = calibrated(detector, folder / "annotations.json", folder / "pictures")
    truth = annotated("held-out")
    progress("held-out")
    held_out = seen(truth, LEAST_SCORE)
    unknown = {}
    for kind in UNKNOWN:
        progress(kind)
        unknown[kind] = seen(annotated(kind), None)
    shared, _ = shared_classes(detector.boxes.names, truth, detector.name)
    return Seen(truth, shared, held_out, unknown, safety)


def table(rows: Sequence[Row]) -> str:
    heading = (
        "weights", "filter", "near", "far", "fewer", "FPR95 near", "far", "kept", "mAP", "loss", "AP50",
        "mAP, cut", "loss",
    )  # fmt: skip
    first = rows[0]
    cells = [heading]
    for row in rows:
        fewer = 1 - (row.near + row.far) / max(1, first.near + first.far)
        cells.append((
            row.weights, row.filter, str(row.near), str(row.far), f"{fewer:.1%}", f"{row.fpr95_near:.3f}",
            f"{row.fpr95_far:.3f}", f"{row.kept:.3f}", f"{row.ap:.4f}", f"{first.ap - row.ap:+.4f}",
            f"{row.ap50:.4f}", f"{row.ap_cut:.4f}", f"{first.ap - row.ap_cut:+.4f}",
        ))  # fmt: skip
    return aligned(cells)


def measured(rows: Sequence[Row], weights: Mapping[str, Path]) -> Measurement:
    most = max(1, rows[0].near + rows[0].far)
    told = {
        f"{row.weights}, {row.filter}": [
            row.near, row.far, 100 * (1 - (row.near + row.far) / most), json_number(row.kept), row.ap, row.ap_cut,
            json_number(row.fpr95_near), json_number(row.fpr95_far),
        ]
        for row in rows
    }  # fmt: skip
    named = (f"{label}={Path(*path.parts[-2:])}" for label, path in weights.items())
    command = " ".join([COMMAND, *map(shlex.quote, named)])
    return Measurement(command, "weights, filter", COLUMNS, told, versions_here())


def labelled(text: str) -> tuple[str, Path]:
    label, found, path = text.partition("=")
    if not found or not label or not path:
        raise argparse.ArgumentTypeError(
            f"{text} is not of the form LABEL=FILE, as in before=before.safetensors"
        )
    return label, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sets", type=Path)
    parser.add_argument("weights", type=labelled, nargs="+", metavar="LABEL=FILE")
    parser.add_argument("--model", default="leyolo-composites")
    parser.add_argument("--pictures", type=int, help="of each set at most")
    parser.add_argument("--json", type=Path, help="to write the rows to as well")
    parser.add_argument("--record", action="store_true", help="keep the rows for the model's card")
    options = parser.parse_args()
    weights = dict(options.weights)
    if len(weights) != len(options.weights):
        parser.error("two files have one label")
    rows = []
    for label, path in weights.items():
        say = partial(print, f"{label}:", file=sys.stderr)
        try:
            detector = detector_of_model(with_evidence(edgekit.load(options.model, path)))
            seen = see(detector, options.sets, options.pictures, say)
            rows += [seen.row(label, name) for name in ("", *FILTERS)]
        except EdgekitError as error:
            sys.exit(f"hallucinations: {error}")
    print(table(rows))
    if options.record:
        record(find_recipe(options.model).path, "hallucinations", measured(rows, weights))
    if options.json:
        strict = [
            {
                key: json_number(value) if isinstance(value, float) else value
                for key, value in asdict(row).items()
            }
            for row in rows
        ]
        options.json.write_text(json.dumps(strict, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
