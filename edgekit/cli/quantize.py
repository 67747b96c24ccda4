"""edgekit quantize"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from edgekit.cli.output import Json, parse_size, print_json, progress
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory
from edgekit.recipe import find_recipe
from edgekit.target import find_target

STEPS, RANGE = 200, "error"


def quantize(
    name: Annotated[
        str, typer.Argument(help="A model's name, a recipe file, or package.module:factory.")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of pictures, or of .npy inputs, to calibrate with.")
    ],
    target: Annotated[
        str, typer.Option(help="coreml, coreml-ios18, onnx, onnx-mobile, or a target file.")
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Bundle folder to write.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file, or 'hub' for the official one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of what stays in floats: fp32 or fp16.")
    ] = None,
    weights_bits: Annotated[
        int,
        typer.Option(help="2 to 8; 7 is what x86 without VNNI adds exactly under any settings."),
    ] = 8,
    activation_bits: Annotated[
        int, typer.Option(help="8, or 0 for activations in floats: a small file, no faster.")
    ] = 8,
    signed: Annotated[
        bool, typer.Option("--signed", help="Activations from -128 to 127 instead of 0 to 255.")
    ] = False,
    range_: Annotated[
        str,
        typer.Option("--range", help="Of activations: largest, percentile, or error (the least)."),
    ] = RANGE,
    repair: Annotated[
        str,
        typer.Option(
            help="What makes good for rounding: nothing, statistics (of each channel), feedback (from weight to "
            "weight), or adaquant, which takes minutes."
        ),
    ] = "statistics",
    steps: Annotated[int, typer.Option(help="Of AdaQuant, for each layer.")] = STEPS,
    rank: Annotated[
        int,
        typer.Option(
            help="With --activation-bits 0: of a branch in floats beside each layer, in place of a repair."
        ),
    ] = 0,
    float_layer: Annotated[
        list[str] | None, typer.Option(help="A layer that stays in floats; may be repeated.")
    ] = None,
    packed: Annotated[
        bool,
        typer.Option("--packed", help="Of ONNX files: weights take their own bits, not 8 each."),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Bits for each layer instead of --weights-bits for all, which are then the most: size=1MB, "
            "latency=5ms (one thread), or with --min-psnr size or latency."
        ),
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(help="Of --budget: floor in dB on inputs held out; the cost is then least."),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(help="Run in tiles so that activations stay below this, such as 64MB."),
    ] = None,
    tiles: Annotated[
        str | None, typer.Option(help="Run in a grid of ROWSxCOLUMNS tiles, such as 4x4.")
    ] = None,
    gate: Annotated[
        float | None,
        typer.Option(help="Least PSNR in dB against the quantised model; default: the target's."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
    json: Json = False,
) -> None:
    """Write a verified bundle with numbers of few bits.

    And say what they cost.
    """
    started = time.perf_counter()
    chosen = find_target(target)
    precision = chosen.require_precision(precision)
    height, width = parse_size(size)
    recipe = None if is_factory(name) else find_recipe(name)
    if recipe is None and (weights or size or frames is not None):
        raise UsageError(
            "--weights, --size and --frames belong to models with a recipe; a factory sets its own."
        )

    if min_psnr is not None and budget is None:
        raise UsageError("--min-psnr is the floor of a --budget, such as size or latency.")

    from edgekit.bit_allocation import export_within
    from edgekit.bundle import require_free
    from edgekit.compress.bit_budget import parse_budget
    from edgekit.compress.quantise_options import QuantiseOptions, Repair
    from edgekit.compress.ranges import RangeChoice
    from edgekit.contract import Size
    from edgekit.exporting import ExportOptions
    from edgekit.model import RANDOM_WEIGHTS, model_of_factory, model_of_recipe
    from edgekit.plan.choose import requested

    _require_one("range", range_, get_args(RangeChoice))
    _require_one("repair", repair, get_args(Repair))
    if steps != STEPS and repair != "adaquant":
        raise UsageError("--steps are those of AdaQuant; give --repair adaquant.")
    if not activation_bits and (signed or range_ != RANGE):
        raise UsageError(
            "--signed and --range are of activations in codes; leave --activation-bits 0 away."
        )
    asked, mended = cast("RangeChoice", range_), cast("Repair", repair)
    options = QuantiseOptions(
        weights_bits,
        activation_bits or None,
        signed,
        asked,
        float_layers=tuple(float_layer or ()),
        repair=mended,
        steps=steps,
        rank=rank,
    )
    planned = requested(memory_budget, tiles, None, None)
    within = None if budget is None else parse_budget(budget, min_psnr)
    label = recipe.name if recipe else name.rpartition(":")[2]
    kind = (
        ("" if budget is None else "mixed-")
        + f"w{weights_bits}"
        + (f"a{activation_bits}" if activation_bits else "")
    )
    folder = output or Path(f"{label}-{chosen.name}-{kind}.bundle")
    require_free(folder, force=force)

    from edgekit.folder_inputs import divided, inputs_in
    from edgekit.quantising import export_quantised

    with progress("quantize") as show:
        show("load")
        if recipe is not None:
            model = model_of_recipe(recipe, weights, Size(height, width, frames))
        else:
            model = model_of_factory(name)
        inputs = divided(inputs_in(data, model))
        export = ExportOptions(precision, force=force, plan=planned, gate_db=gate, packed=packed)
        if within is None:
            done = export_quantised(model, chosen, folder, inputs, options, export, show)
            allotted = None
        else:
            done, allotted = export_within(
                model, chosen, folder, inputs, options, export, within, show
            )
    if model.weights == RANDOM_WEIGHTS:
        typer.echo(
            f"edgekit: {name} has no weights here, so it got random ones (seed 0): what their codes cost says "
            "nothing about trained ones. Give --weights FILE.",
            err=True,
        )
    codes = done.model.codes
    assert codes is not None
    assert done.report is not None
    seconds = time.perf_counter() - started
    if json:
        found: dict[str, Any] = {
            "bundle": str(folder),
            "target": chosen.name,
            "precision": precision,
            "codes": done.bundle.manifest["codes"],
            "calibrated_with": len(inputs[0]),
            "quality": done.quality.to_json(),
            "allocation": None if allotted is None else allotted.to_json(),
            "files": done.bundle.manifest["files"],
            "parity": done.report.to_json(),
            "seconds": round(seconds, 2),
        }
        print_json(found)
        return
    if allotted is not None:
        print(f"{allotted.table()}\n")
    print(done.report.table())
    print()
    print(done.quality.text())
    print(
        f"wrote {folder}: {codes.label}, {codes.layers} of {codes.of_layers} layers with "
        f"{codes.integer_share:.1%} of the multiply-accumulates, calibrated with {len(inputs[0])} inputs, in {seconds:.1f} s"
    )


def _require_one(what: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise UsageError(f"There is no {what} '{word}'; there are {', '.join(known)}.")
