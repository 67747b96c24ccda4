"""edgekit compress"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.cli.output import Json, parse_size, print_json, progress, require_drawable
from edgekit.errors import UsageError
from edgekit.recipe import find_recipe
from edgekit.target import find_target

if TYPE_CHECKING:
    from edgekit.compress.pruning.options import Cost

ROUND_TO, ACTIVATION_BITS = 16, 8


def compress(
    name: Annotated[str, typer.Argument(help="A model's name, or a recipe file or folder.")],
    data: Annotated[
        Path,
        typer.Option(help="Folder of pictures, or of .npy latents: to choose, train and judge by."),
    ],
    target: Annotated[
        str, typer.Option(help="onnx, onnx-mobile, coreml, coreml-ios18, or a target file.")
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Bundle folder to write.")
    ] = None,
    keep: Annotated[
        float, typer.Option(help="The share of the work that pruning may leave; 1 prunes nothing.")
    ] = 0.5,
    of: Annotated[str, typer.Option(help="Of which work: macs or latency.")] = "macs",
    round_to: Annotated[
        int, typer.Option(help="Channel counts change by multiples of this.")
    ] = ROUND_TO,
    steps: Annotated[
        int, typer.Option(help="To train for after pruning; the whole network is the teacher.")
    ] = 0,
    weights_bits: Annotated[
        int, typer.Option(help="8, 7 or 4; 32 quantises nothing. See edgekit quantize.")
    ] = 8,
    activation_bits: Annotated[
        int, typer.Option(help="8, or 0 for activations in floats.")
    ] = ACTIVATION_BITS,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file, or 'hub' for the official one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    inputs: Annotated[
        int,
        typer.Option(help="Of --data that channels are chosen by, and steps judged by at most."),
    ] = 16,
    memory_budget: Annotated[
        str | None, typer.Option(help="Of the last file: activations stay below this, in tiles.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw quality against time, a dot for each step: .png, .svg."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was stopped.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
    json: Json = False,
) -> None:
    """Prune, train again, quantise and export in one go.

    The table has every step's work, size, time and quality.
    """
    started = time.perf_counter()
    is_pruned, is_quantised = keep != 1, weights_bits != 32
    if not is_pruned and not is_quantised:
        raise UsageError(
            "Neither --keep nor --weights-bits asks for anything; `edgekit export` writes the whole model."
        )
    if steps < 0 or inputs < 1:
        raise UsageError("--steps must be 0 or more, and --inputs 1 or more.")
    if not is_pruned and (steps or of != "macs" or round_to != ROUND_TO):
        raise UsageError(
            "--steps, --of and --round-to belong to what is pruned; give a --keep below 1."
        )
    if not is_quantised and activation_bits != ACTIVATION_BITS:
        raise UsageError(
            "--activation-bits belongs to what is quantised; give --weights-bits 8, 7 or 4."
        )
    if resume and not steps:
        raise UsageError("--resume goes on with a training; give its --steps.")
    require_drawable(picture)
    chosen = find_target(target)
    height, width = parse_size(size)
    recipe = find_recipe(name)
    folder = output or Path(f"{recipe.name}-{chosen.name}-compressed.bundle")

    from edgekit.bundle import require_free
    from edgekit.compress.pruning.options import PruneOptions
    from edgekit.compress.quantise_options import QuantiseOptions
    from edgekit.compressing import CompressOptions, compress_model
    from edgekit.contract import Size
    from edgekit.exporting import ExportOptions
    from edgekit.model import RANDOM_WEIGHTS, model_of_recipe
    from edgekit.plan.choose import requested
    from edgekit.step_picture import write_picture

    require_free(folder, force=force)
    options = CompressOptions(
        PruneOptions(keep, cast("Cost", of), round_to) if is_pruned else None,
        steps,
        QuantiseOptions(weights_bits, activation_bits or None) if is_quantised else None,
        inputs,
        resume,
    )
    export = ExportOptions(force=force, plan=requested(memory_budget, None, None, None))
    with progress("compress") as show:
        show("load")
        model = model_of_recipe(recipe, weights, Size(height, width, frames))
        done = compress_model(model, chosen, folder, data, options, export, show)
    if picture is not None:
        write_picture(
            f"{recipe.name}: quality after each step of its compression", done.steps, picture
        )
    if model.weights == RANDOM_WEIGHTS:
        typer.echo(
            f"edgekit: {name} has random weights: good for sizes and times, and no word on quality. Give --weights FILE.",
            err=True,
        )
    if json:
        print_json(
            {
                "bundle": str(folder),
                "target": chosen.name,
                "steps": [step.to_json() for step in done.steps],
                "parity": done.report.to_json() if done.report else None,
                "seconds": round(time.perf_counter() - started, 2),
            }
        )
        return
    print(done.table())
    print(f"wrote {folder} in {time.perf_counter() - started:.0f} s")
