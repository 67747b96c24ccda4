"""edgekit prune"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import Json, parse_size, print_json, progress
from edgekit.cli.prune_choice import Asked, chosen
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory
from edgekit.recipe import find_recipe

BATCH = 4


def prune(
    name: Annotated[
        str,
        typer.Argument(help="A model's name, a recipe file or folder, or package.module:factory."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the pruned model's recipe and weights. Default: NAME-pruned here.",
        ),
    ] = None,
    keep: Annotated[
        float, typer.Option(help="The share of --of that may be left, such as 0.5.")
    ] = 0.5,
    of: Annotated[
        str | None,
        typer.Option(
            help="macs, or latency: of layers measured in onnxruntime on this machine.",
            show_default="macs",
        ),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option(help="Channel counts change by multiples of this.", show_default="16"),
    ] = None,
    importance: Annotated[
        str | None,
        typer.Option(
            help="Which channels go first: output, magnitude, fpgm, taylor or random; of --blocks: "
            "second-order or magnitude.",
            show_default="output; second-order",
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            help="How many go where: scan (by measured errors), importance (by scores), or uniform.",
            show_default="scan",
        ),
    ] = None,
    least: Annotated[
        float | None,
        typer.Option(
            help="The share of each layer's channels that stays in any case.", show_default="0.125"
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            help="Instead of channels: zeros in blocks of linear layers' weights, such as 32x32."
        ),
    ] = None,
    power: Annotated[
        float | None,
        typer.Option(
            help="Of --blocks: weight of the power that blocks draw, beside the error.",
            show_default="1",
        ),
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(
            help="Learn what goes: train masks on --data for so many steps, with the whole network as teacher."
        ),
    ] = None,
    masks_only: Annotated[
        bool,
        typer.Option("--masks-only", help="Of --masks: the weights stay as they are meanwhile."),
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Path of a module whose channels stay; may be repeated."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file, or 'hub' for the official one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures, or of latents of a video decoder (.npy, .npz, .safetensors), to measure "
            "and to train on."
        ),
    ] = None,
    inputs: Annotated[
        int, typer.Option(help="How many of --data scores, errors and quality are measured on.")
    ] = 16,
    steps: Annotated[
        int, typer.Option(help="To train on --data afterwards, with the whole network as teacher.")
    ] = 0,
    run: Annotated[
        Path | None, typer.Option(help="Folder of that training. Default: OUTPUT.run.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was stopped.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that make batches; 0: this one.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder of an earlier pruning.")
    ] = False,
    json: Json = False,
) -> None:
    """Leave channels or blocks of layers out: a smaller network.

    It exports, plans and trains as any other.
    """
    if steps < 0 or inputs < 1 or workers < 0:
        raise UsageError("--steps and --workers must be 0 or more, and --inputs 1 or more.")
    if not (steps or masks) and (run is not None or resume or workers):
        raise UsageError("--run, --resume and --workers belong to a training; give its --steps.")
    if steps and data is None:
        raise UsageError("--steps trains on --data; give a folder of pictures or latents.")
    if is_factory(name):
        raise UsageError(
            f"'{name}' has no recipe to be written with fewer channels; prune it in Python: "
            "edgekit.prune(model).module."
        )
    if masks is not None and data is None:
        raise UsageError("--masks trains on --data; give a folder of pictures or latents.")
    asked = Asked(
        keep, tuple(ignore or ()), of, round_to, importance, ratios, least, blocks, power, masks,
        masks_only,
    )  # fmt: skip
    options = chosen(asked)
    height, width = parse_size(size)
    recipe = find_recipe(name)
    folder = output or Path(f"{recipe.name}-pruned")

    from edgekit.bottleneck_pruning import prune_by_bottleneck
    from edgekit.bundle import require_free
    from edgekit.compress.blocks.options import BlockOptions
    from edgekit.compress.blocks.sparse import BlockPruned, block_prune_model
    from edgekit.compress.pruning.bottleneck import BottleneckOptions
    from edgekit.compress.pruning.pruned import Pruned, prune_model
    from edgekit.contract import Size
    from edgekit.distillation.network_inputs import varied_inputs
    from edgekit.distillation.run_folder import require_resumed
    from edgekit.folder_inputs import inputs_in
    from edgekit.model import RANDOM_WEIGHTS, model_of_recipe
    from edgekit.pruning import is_pruned, recovered, write_pruned

    require_free(folder, force=force, ours=is_pruned)
    where = run or folder.with_name(f"{folder.name}.run")
    of_masks = where.with_name(f"{where.name}.masks")
    if isinstance(options, BottleneckOptions):
        require_resumed(of_masks, resume=resume)
    if steps:
        require_resumed(where, resume=resume)
    with progress("prune") as show:
        show("load")
        model = model_of_recipe(recipe, weights, Size(height, width, frames))
        batches = None
        if data is not None:
            found = inputs_in(data, model)
            batches = found.batches(inputs, BATCH)
        pruned: Pruned | BlockPruned
        if isinstance(options, BlockOptions):
            pruned = block_prune_model(model, options, batches, show)
        elif isinstance(options, BottleneckOptions):
            pruned = prune_by_bottleneck(
                model, options, varied_inputs(model, found.files), batches, run=of_masks,
                resume=resume, workers=workers, progress=show,
            )  # fmt: skip
        else:
            pruned = prune_model(model, options, batches, show)
        if steps and batches is not None:
            training = varied_inputs(model, found.files)
            pruned = recovered(
                pruned, model, training, steps, batches, run=where,
                resume=resume, workers=workers, progress=show,
            )  # fmt: skip
        write_pruned(pruned, folder, force=force)
    if json:
        print_json({"folder": str(folder), **pruned.to_json()})
        return
    print(f"{pruned.table()}\n\n{pruned.summary()}")
    if model.weights == RANDOM_WEIGHTS:
        print("The weights are random ones: good for measuring speed only.")
    if batches is None:
        print("Errors were measured on noise; --data gives pictures or latents.")
    print(f"wrote {folder}; export it with: edgekit export {folder}")
