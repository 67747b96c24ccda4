"""COCO's average precision of found boxes, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

from edgekit.errors import MissingEnvironmentError

FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""In the order of COCO's summary."""
AR_MOST_BOXES = 8
"""Place of the average recall with 100 boxes in COCO's summary."""


def require_pycocotools() -> None:
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise MissingEnvironmentError(
            "Evaluation needs pycocotools: pip install 'edgekit-vision[detection]'."
        ) from error


def coco_figures(
    dataset: dict[str, Any], results: list[dict[str, Any]], names: Mapping[int, str]
) -> tuple[list[float], dict[str, float]]:
    """The figures of FIGURES and the average recall with 100 boxes, from 0 to 1; and the AP of each class.

    NaN where no object counts. `dataset` and `results` are COCO's JSON, and `names` those of the categories
    that count.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        annotated = COCO()
        annotated.dataset = dataset
        annotated.createIndex()
        found = annotated.loadRes(results) if results else COCO()
        evaluation = COCOeval(annotated, found, "bbox")
        evaluation.params.catIds = sorted(names)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [_figure(evaluation.stats[place]) for place in (*range(len(FIGURES)), AR_MOST_BOXES)]
    precision = evaluation.eval["precision"]  # IoU, recall, class, area, most boxes
    by_class = {}
    for place, key in enumerate(evaluation.params.catIds):
        row = precision[:, :, place, 0, -1]
        by_class[names[key]] = _figure(row[row > -1].mean() if (row > -1).any() else -1)
    return figures, by_class


def _figure(value: float) -> float:
    """COCO writes -1 where nothing counts, and sums in floating point what should be 1."""
    return float("nan") if value < 0 else round(float(value), 6)
