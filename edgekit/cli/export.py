"""edgekit export"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.output import (
    Json,
    parse_size,
    print_json,
    progress,
)
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory
from edgekit.recipe import find_recipe
from edgekit.report import aligned
from edgekit.target import find_target

if TYPE_CHECKING:
    from edgekit.prepared import Prepared
    from edgekit.recipe import Recipe


def _or_hub(recipe: Recipe | None) -> str:
    return " or --weights hub" if recipe and recipe.weights.kind == "hub" else ""


def export(
    name: Annotated[
        str, typer.Argument(help="A model's name, a recipe file, or package.module:factory.")
    ],
    target: Annotated[
        str, typer.Option(help="coreml, coreml-ios18, coreai, onnx, onnx-mobile, or a target file.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Bundle folder to write.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file, or 'hub' for the official one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32 or fp16; default: the target's.")
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(help="Run in tiles so that activations stay below this, such as 64MB."),
    ] = None,
    tiles: Annotated[
        str | None, typer.Option(help="Run in a grid of ROWSxCOLUMNS tiles, such as 4x4.")
    ] = None,
    stream: Annotated[
        int | None,
        typer.Option(help="Run a video as a stream that takes this many input frames a step."),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Of a stream: decode each step with this many frames of its neighbours instead of "
            "keeping lines; see edgekit plan --stream."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Cut the network behind this layer: a head for the target, a tail for a server; "
            "'bottleneck' of a model that has one."
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="With --split: folder of pictures that fix the ranges of 8-bit codes; without, each "
            "packet has its own range."
        ),
    ] = None,
    exit_file: Annotated[
        Path | None,
        typer.Option(
            "--exit", help="With --split: an early exit (`edgekit split exit`) for the head's file."
        ),
    ] = None,
    palettes: Annotated[
        int | None,
        typer.Option(
            help="Of Core ML: weights as indices of so many bits, such as 6, into shared values."
        ),
    ] = None,
    gate: Annotated[
        float | None,
        typer.Option(help="Least PSNR in dB against the model; default: the target's."),
    ] = None,
    bake_preprocessing: Annotated[
        bool,
        typer.Option(
            "--bake-preprocessing",
            help="Of images: the file takes uint8 RGB, as decoded, and normalises it itself.",
        ),
    ] = False,
    nms: Annotated[
        bool, typer.Option("--nms", help="Of a detector: the file suppresses overlapping boxes.")
    ] = False,
    score: Annotated[
        float | None, typer.Option(help="With --nms: least score; default: the recipe's.")
    ] = None,
    iou: Annotated[
        float | None, typer.Option(help="With --nms: most overlap; default: the recipe's.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="With --nms: most boxes; default: the recipe's.")
    ] = None,
    safety: Annotated[
        bool,
        typer.Option(
            "--safety",
            help="Of a detector: the file tells logits and features too, for `edgekit calibrate`.",
        ),
    ] = False,
    one_file: Annotated[
        bool,
        typer.Option("--one-file", help="Put a plan's tiles into one file that any runtime runs."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show rewrites and lints; write nothing.")
    ] = False,
    verify: Annotated[
        bool, typer.Option(help="Run the file and compare it with the model.")
    ] = True,
    simplify: Annotated[bool, typer.Option(help="Try onnxsim on ONNX files.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
    json: Json = False,
) -> None:
    """Write a model as a verified bundle."""
    started = time.perf_counter()
    chosen = find_target(target)
    chosen.require_precision(precision)
    height, width = parse_size(size)
    if one_file and not (memory_budget or tiles or stream):
        raise UsageError("--one-file belongs to --memory-budget, --tiles or --stream.")
    if not nms and any(value is not None for value in (score, iou, limit)):
        raise UsageError("--score, --iou and --limit belong to --nms.")
    if split is None and (calibrate is not None or exit_file is not None):
        raise UsageError("--calibrate and --exit belong to --split.")
    if split is not None and (
        memory_budget
        or tiles
        or stream
        or bake_preprocessing
        or nms
        or safety
        or dry_run
        or palettes
    ):
        raise UsageError(
            "--split stands alone: plans, --palettes, --bake-preprocessing, --nms, --safety and --dry-run are for whole networks."
        )
    recipe = None if is_factory(name) else find_recipe(name)
    if recipe is None and (bake_preprocessing or nms or safety):
        raise UsageError(
            "--bake-preprocessing, --nms and --safety belong to models with a recipe, which says what to do."
        )
    if recipe is None and (weights or size or frames is not None):
        raise UsageError(
            "--weights, --size and --frames belong to models with a recipe; a factory sets its own."
        )
    if recipe is not None:
        recipe.specs(height, width, frames)

    from edgekit.plan.choose import requested

    planned = requested(memory_budget, tiles, stream, overlap)

    from edgekit.bundle import require_free
    from edgekit.contract import Size
    from edgekit.detection.in_the_file import InTheFile
    from edgekit.exporting import ExportOptions, default_folder, export_model
    from edgekit.model import RANDOM_WEIGHTS, model_of_factory, model_of_recipe
    from edgekit.prepared import prepare, working

    label = recipe.name if recipe else name.rpartition(":")[2]
    if split is None:
        folder = output or default_folder(label, chosen, precision)
    else:
        from edgekit.split_exporting import SplitOptions, split_folder

        folder = output or split_folder(label, split, chosen, precision)
    if not dry_run:
        require_free(folder, force=force)
    with progress("export") as show:
        show("load")
        if recipe is not None:
            model = model_of_recipe(recipe, weights, Size(height, width, frames))
        else:
            model = model_of_factory(name)
    if model.weights == RANDOM_WEIGHTS:
        typer.echo(
            f"edgekit: {name} has no weights here, so it gets random ones (seed 0): good for measuring, not "
            f"for use. Give --weights FILE{_or_hub(recipe)}.",
            err=True,
        )
    if split is not None:
        from edgekit.cli.export_split import SplitRequest, export_split_model
        from edgekit.split.early_exit import EarlyExit

        early = EarlyExit.read(exit_file) if exit_file is not None else None
        wanted = SplitOptions(precision, verify, simplify, force, gate, early)
        request = SplitRequest(split, calibrate, wanted)
        export_split_model(model, chosen, folder, request, json=json)
        return
    if nms and model.boxes is None:
        raise UsageError(f"{name} is no detector, so there are no boxes for --nms.")
    asked = model.boxes.thresholds(score, iou, limit) if nms and model.boxes else None
    work = InTheFile(bake_preprocessing, asked, safety)
    if dry_run:
        with progress("export") as show:
            show("capture and rewrite")
            prepared = prepare(working(model, chosen, work), chosen, precision)
        print_json(_dry_run_json(prepared)) if json else print(_dry_run_text(prepared))
        raise typer.Exit(1 if prepared.errors else 0)
    options = ExportOptions(
        precision, verify=verify, simplify=simplify, force=force,
        plan=planned, one_file=one_file, gate_db=gate, work=work, palette_bits=palettes,
    )  # fmt: skip
    with progress("export") as show:
        bundle, report = export_model(model, chosen, folder, options, show)
    seconds = time.perf_counter() - started
    if json:
        print_json(
            {
                "bundle": str(folder),
                "target": chosen.name,
                "precision": bundle.manifest["precision"],
                "files": bundle.manifest["files"],
                "parity": report.to_json() if report else None,
                "weights": model.weights,
                "seconds": round(seconds, 2),
            }
        )
        return
    if report:
        print(report.table())
    else:
        print("not verified (--no-verify)")
    if bundle.manifest["simplify"]:
        print(bundle.manifest["simplify"])
    for warning in bundle.manifest["warnings"]:
        print(f"warning: {warning}")
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(f"wrote {folder} ({megabytes:.1f} MB) in {seconds:.1f} s")


def _dry_run_json(prepared: Prepared) -> dict[str, Any]:
    return {
        "precision": prepared.precision,
        "captured_by": prepared.method,
        "rewrites": [vars(decision) for decision in prepared.decisions],
        "findings": [vars(finding) for finding in prepared.findings],
        "convertible": not prepared.errors,
    }


def _dry_run_text(prepared: Prepared) -> str:
    """Rules by how often and why not; lints by message, with the first line each comes from."""
    lines = [f"captured by {prepared.method}, precision {prepared.precision}", ""]
    groups = Counter((d.rule, d.applied, d.reason) for d in prepared.decisions)
    sources = {(d.rule, d.applied, d.reason): d.source for d in reversed(prepared.decisions)}
    rewrites = [("rewrite", "fires", "times", "why not", "first at")]
    for key, count in groups.items():
        rule, applied, reason = key
        rewrites.append((rule, "yes" if applied else "no", str(count), reason, sources[key]))
    lines += [aligned(rewrites), ""]
    messages = Counter((f.level, f.message) for f in prepared.findings)
    places = {(f.level, f.message): f.source for f in reversed(prepared.findings)}
    if messages:
        lints = [("lint", "times", "what", "first at")]
        for (level, message), count in messages.items():
            lints.append((level, str(count), message, places[level, message]))
        lines.append(aligned(lints))
    else:
        lines.append("lints: nothing found")
    lines.append("cannot be converted" if prepared.errors else "nothing in the way of a conversion")
    return "\n".join(lines)
