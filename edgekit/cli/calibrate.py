"""edgekit calibrate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, print_json, progress
from edgekit.report import aligned


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A detector, exported with --safety.")],
    annotations: Annotated[Path, typer.Argument(help="Boxes in COCO's JSON, of what it knows.")],
    images: Annotated[Path, typer.Argument(help="Folder of its pictures.")],
    accept: Annotated[
        float, typer.Option(help="Share of right boxes that each filter lets pass.")
    ] = 0.95,
    score: Annotated[
        float | None, typer.Option(help="Least score of a box that counts; default: the recipe's.")
    ] = None,
    json: Json = False,
) -> None:
    """Make filters of hallucinations, kept in the bundle."""
    from edgekit import api

    with progress("calibrate") as show:
        safety = api.calibrate(
            bundle, annotations, images, score=score, acceptance=accept, progress=show
        )
    thresholds = {name: one.threshold for name, one in safety.filters.items()}
    if json:
        print_json(
            {
                "bundle": str(bundle),
                "acceptance": safety.acceptance,
                "score": safety.score,
                "pictures": safety.pictures,
                "boxes": safety.boxes,
                "features": safety.features,
                "thresholds": thresholds,
            }
        )
        return
    rows = [(name, f"{value:.4g}") for name, value in thresholds.items()]
    print(aligned([("filter", "least confidence"), *rows]))
    print(
        f"made of {safety.boxes} right boxes with a score above {safety.score:g} in {safety.pictures} pictures, "
        f"of which {safety.acceptance:.0%} pass"
    )
    print(f"use one with: edgekit run {bundle} --image PICTURE --filter knn")
