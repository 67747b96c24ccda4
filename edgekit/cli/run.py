"""edgekit run"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, parse_inputs, print_json, progress
from edgekit.errors import UsageError


def run(
    bundle: Annotated[
        str,
        typer.Argument(
            help="A folder that `edgekit export` wrote; with --image, a model's name as well."
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="FILE.npy, or of several inputs NAME=FILE.npy for each; pipeline_latent=FILE.npy takes a latent as a diffusion "
            "pipeline holds it. Without any, the bundle's golden input is used.",
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(help="Teacher's checkpoint (safetensors) with latents_mean and latents_std."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for NAME.npy, and a PNG of videos and images; with --image, the picture to draw "
            "boxes on, by default PICTURE-boxes.png.",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Of a detector: a picture whose boxes are printed and drawn."),
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="Least score of a box; default: the recipe's.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            help="Overlap above which the better of two boxes stays; default: the recipe's."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="With a model's name: checkpoint file, or 'hub'.")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            help="Of a calibrated bundle: leave out what energy, max-logit, mahalanobis or knn rejects."
        ),
    ] = None,
    reduced_decode: Annotated[
        bool,
        typer.Option(
            "--reduced-decode",
            help="Decode a JPEG no larger than the network needs: quicker, and boxes may differ a little.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a drawn picture that exists.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute with an exported file on this machine."""
    if image is not None:
        from edgekit.cli.run_image import ImageOptions, run_image

        if inputs or statistics:
            raise UsageError("--input and --statistics are for arrays; --image is read by itself.")
        options = ImageOptions(image, output, score, iou, weights, force, filter, reduced_decode)
        run_image(bundle, options, json=json)
        return
    if force or weights or filter or reduced_decode or score is not None or iou is not None:
        raise UsageError(
            "--score, --iou, --weights, --filter, --reduced-decode and --force belong to --image."
        )
    import numpy as np

    from edgekit.api import run_named
    from edgekit.arrays import read_array, write_results
    from edgekit.bundle import open_bundle
    from edgekit.report import json_number
    from edgekit.statistics import read_statistics

    opened = open_bundle(Path(bundle))
    files = parse_inputs(inputs or [], [spec.name for spec in opened.inputs])
    named = {name: read_array(path) for name, path in files.items()}
    if statistics and "pipeline_latent" not in named:
        raise UsageError("--statistics belongs to --input pipeline_latent=FILE.npy.")
    scaling = read_statistics(statistics) if statistics else None
    with progress("run"):
        started = time.perf_counter()
        results = run_named(opened, named or opened.golden()[0], scaling)
        seconds = time.perf_counter() - started
    written = write_results(output, results, opened.outputs) if output else []
    summary = {
        name: {
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "min": float(value.min()),
            "max": float(value.max()),
            "mean": float(value.mean()),
            "not_finite": int(value.size - np.isfinite(value).sum()),
        }
        for name, value in results.items()
    }
    if json:
        strict = {
            name: {k: json_number(v) if isinstance(v, float) else v for k, v in facts.items()}
            for name, facts in summary.items()
        }
        print_json(
            {
                "outputs": strict,
                "files": [str(path) for path in written],
                "seconds": round(seconds, 3),
            }
        )
        return
    if not named:
        print("input: the bundle's golden one, which is random numbers; --input takes yours")
    for name, facts in summary.items():
        shape = "x".join(str(size) for size in results[name].shape)
        print(
            f"{name} {shape} {facts['dtype']}: {facts['min']:.4g} to {facts['max']:.4g}, mean {facts['mean']:.4g}"
        )
        if facts["not_finite"]:
            print(f"  {facts['not_finite']} of its values are NaN or infinite")
    for path in written:
        print(f"wrote {path}")
    print(f"load and run took {seconds:.2f} s")
