"""edgekit evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, print_json, progress


def evaluate(
    detector: Annotated[str, typer.Argument(help="A bundle's folder, or a model's name.")],
    annotations: Annotated[Path, typer.Argument(help="Boxes in COCO's JSON.")],
    images: Annotated[Path, typer.Argument(help="Folder of its pictures.")],
    weights: Annotated[
        str | None, typer.Option(help="With a model's name: checkpoint file, or 'hub'.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="Least score that counts; default 0.001.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            help="Overlap above which the better of two boxes stays; default: the recipe's."
        ),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            help="Of a calibrated bundle: energy, max-logit, mahalanobis or knn; what it rejects counts as "
            "if its score were below the recipe's."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Mean average precision of a detector, as COCO measures it."""
    from edgekit import api

    with progress("evaluate") as show:
        result = api.evaluate(
            detector, annotations, images, weights=weights, score=score, iou=iou, filter=filter,
            progress=show,
        )  # fmt: skip
    print_json(result.to_json()) if json else print(result.table())
