"""edgekit verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import Json, print_json, progress
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.contract import TensorSpec
    from edgekit.prepared import Prepared


def verify(
    bundle: Annotated[Path, typer.Argument(help="A folder that `edgekit export` wrote.")],
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first operator where file and module part.")
    ] = False,
    half_audit: Annotated[
        bool, typer.Option("--half-audit", help="Name operators that half precision endangers.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="For --bisect and --half-audit: the model, if the bundle's name does not say."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="For --bisect and --half-audit: the weights it was exported with."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="For --bisect and --half-audit: the target's file, if it is your own."),
    ] = None,
    json: Json = False,
) -> None:
    """Judge a bundle's file on its golden input."""
    from edgekit.api import verify as verify_bundle
    from edgekit.bundle import open_bundle
    from edgekit.plan.plan import FILE as PLAN_FILE

    opened = open_bundle(bundle)
    if (model or weights or target) and not (bisect or half_audit):
        raise UsageError("--model, --weights and --target belong to --bisect or --half-audit.")
    if (bisect or half_audit) and "split" in opened.manifest:
        raise UsageError(
            "--bisect and --half-audit follow a whole network; export the model without --split."
        )
    if (bisect or half_audit) and opened.manifest.get("codes"):
        raise UsageError(
            "--bisect and --half-audit rebuild a model from its recipe, which does not hold the codes of a "
            "quantised one; export the float model to see where it parts."
        )
    if bisect and opened.model_file.name == PLAN_FILE:
        raise UsageError(
            "--bisect follows one model file operator by operator; export without a plan, or with "
            "--one-file."
        )
    with progress("verify") as show:
        show("run the file on its golden input")
        report = verify_bundle(opened)
        divergence = audit = None
        if bisect or half_audit:
            show("rebuild the model")
            prepared = _rebuild(opened, model, weights, target)
        if bisect:
            from edgekit.backends.registry import backend_for
            from edgekit.parity.bisect import first_divergence

            show("compare operator by operator")
            threshold = 1e-3 if prepared.precision == "fp32" else 5e-2
            file = backend_for(opened.format).load(opened.model_file)
            divergence = first_divergence(prepared.program, file, opened.golden()[0], threshold)
        if half_audit:
            from edgekit.parity.half_audit import audit_half

            show("half-precision audit")
            audit = audit_half(prepared.program, opened.golden()[0])
    if json:
        result = report.to_json()
        if bisect:
            result["divergence"] = divergence.to_json() if divergence else None
        if audit:
            result["half_audit"] = audit.to_json()
        print_json(result)
    else:
        print(report.table())
        if bisect:
            print(divergence.sentence() if divergence else "No operator's error reaches an output.")
        if audit:
            print(audit.table())
    raise typer.Exit(0 if report.passed else 3)


def _planes(spec: TensorSpec) -> tuple[int, ...]:
    """The shape with colours before rows, whatever lies in the file."""
    if spec.axes != "NHWC":
        return spec.shape
    count, height, width, colours = spec.shape
    return count, colours, height, width


def _rebuild(bundle: Bundle, name: str | None, weights: str | None, target: str | None) -> Prepared:
    """The program that the bundle was written from, checked against its golden output."""
    import numpy as np

    from edgekit.detection.in_the_file import InTheFile
    from edgekit.export_proof import golden_pair
    from edgekit.model import model_of_factory, model_of_recipe
    from edgekit.prepared import prepare, working
    from edgekit.recipe import all_recipes, find_recipe
    from edgekit.target import all_targets, find_target

    exported_as = str(bundle.manifest["name"])
    if name is None and bundle.manifest["family"] is None:
        raise UsageError(
            f"'{exported_as}' has no recipe; name its factory: --model package.module:factory."
        )
    if name is None and exported_as not in {recipe.name for recipe in all_recipes()}:
        raise UsageError(
            f"'{exported_as}' is no model of the zoo; name its recipe: --model FILE.toml."
        )
    name = name or exported_as
    if is_factory(name):
        if weights:
            raise UsageError("--weights belongs to models with a recipe; a factory sets its own.")
        model = model_of_factory(name)
    else:
        recipe = find_recipe(name)
        try:
            size = recipe.contract.size_of(_planes(bundle.inputs[0]))
        except UsageError as error:
            raise UsageError(f"'{name}' is not the model of {bundle.path.name}: {error}") from error
        model = model_of_recipe(recipe, weights, size)
    exported_for = str(bundle.manifest["target"])
    if target is None and exported_for not in {known.name for known in all_targets()}:
        raise UsageError(
            f"'{exported_for}' is a target of your own; name its file: --target FILE.toml."
        )
    chosen = find_target(target or exported_for)
    if chosen.name != exported_for:
        raise UsageError(
            f"{bundle.path.name} was exported for '{exported_for}', not '{chosen.name}'."
        )
    model = working(
        model, chosen, InTheFile(bundle.takes_pixels, bundle.suppression, bundle.tells_evidence)
    )
    prepared = prepare(model, chosen, str(bundle.manifest["precision"]))
    expected = golden_pair(model, prepared.program)[1]
    for output, value in bundle.golden()[1].items():
        found = expected.get(output)
        if (
            found is None
            or found.shape != value.shape
            or not np.allclose(found, value, atol=1e-4, rtol=1e-3)
        ):
            raise UsageError(
                f"{name} does not compute the golden output of {bundle.path.name}; give the weights it "
                "was exported with (--weights) or its factory (--model)."
            )
    return prepared
