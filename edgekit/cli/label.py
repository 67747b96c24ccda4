"""edgekit label"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, print_json, progress


def label(
    teacher: Annotated[
        str, typer.Argument(help="A detector: a bundle's folder, or a model's name.")
    ],
    data: Annotated[Path, typer.Option(help="A picture or video, or a folder of both.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    weights: Annotated[
        str | None, typer.Option(help="With a model's name: checkpoint file, or 'hub'.")
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a box that is written.")] = 0.5,
    iou: Annotated[
        float | None,
        typer.Option(
            help="Overlap above which the better of two boxes stays; default: the teacher's."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Such as person,car: these only, in the order of the student's recipe. Default: all."
        ),
    ] = None,
    every: Annotated[int, typer.Option(help="Of videos, one frame in so many.")] = 1,
    held_out: Annotated[
        float,
        typer.Option(
            help="Share at the end of each video that goes into OUTPUT/held-out, the rest into OUTPUT/train."
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Write a teacher's boxes on pictures and videos.

    As annotations in COCO's format, to distil from.
    """
    from edgekit import api

    names = tuple(name.strip() for name in classes.split(",")) if classes is not None else ()
    with progress("label") as show:
        written = api.label(
            teacher, data, output, weights=weights, score=score, iou=iou, classes=names,
            every=every, held_out=held_out, progress=show,
        )  # fmt: skip
    if json:
        print_json(written.to_json())
        return
    print(written.table())
    print(f"train on them with: edgekit distill STUDENT --data {written.annotations[0]}")
