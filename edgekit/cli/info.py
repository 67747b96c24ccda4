"""edgekit info"""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.box_contract import Boxes
from edgekit.cli.output import Json, parse_size, print_json
from edgekit.contract import TensorSpec
from edgekit.recipe import find_recipe
from edgekit.report import aligned


def info(
    name: Annotated[str, typer.Argument(help="A model's name, or a recipe file.")],
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    json: Json = False,
) -> None:
    """What one model takes, gives and costs."""
    recipe = find_recipe(name)
    height, width = parse_size(size)
    given, made = recipe.specs(height, width, frames)
    chosen = recipe.contract.size_of(given.shape)
    unit = "image" if chosen.frames is None else "frame"

    from edgekit.zoo.cost import network_cost

    cost = network_cost(recipe, given.shape)
    gmac = cost.macs / (chosen.frames or 1) / 1e9
    if json:
        print_json(
            {
                "name": recipe.name,
                "family": recipe.family,
                "summary": recipe.summary,
                "source": recipe.source,
                "parameters": cost.parameters,
                "macs": cost.macs,
                f"gmac_per_{unit}": round(gmac, 4),
                "inputs": [given.to_json()],
                "outputs": [spec.to_json() for spec in made],
                **recipe.contract.declared(),
                "weights": recipe.weights.kind,
                "weights_licence": recipe.weights.licence,
                "architecture": dict(recipe.architecture),
            }
        )
        return
    weights = recipe.weights
    where = weights.bundled or (
        f"{weights.repository}/{weights.file} (--weights hub)" if weights.repository else "none"
    )
    clip = "" if chosen.frames is None else f", {chosen.frames} frames"
    rows = [
        ("model", recipe.name),
        ("what", recipe.summary),
        ("source", recipe.source),
        ("weights", f"{where}, {weights.licence}".removesuffix(", ")),
        ("parameters", f"{cost.parameters:,}"),
        ("cost", f"{gmac:.3g} GMAC per {unit} at {chosen.height}x{chosen.width}{clip}"),
        ("input", _door(given)),
        *(("output", _door(spec)) for spec in made),
    ]
    output = getattr(recipe.contract, "output", None)
    if isinstance(output, Boxes):
        shown = f"above {output.score:g}, IoU up to {output.iou:g}, at most {output.limit}"
        rows.append(("pictures", output.resize))
        rows.append(("boxes", f"{shown}; {output.classes} classes: {', '.join(output.used_names)}"))
    print(aligned(rows))


def _door(spec: TensorSpec) -> str:
    shape = "x".join(map(str, spec.shape))
    span = "" if spec.low is None else f" in [{spec.low:.4g}, {spec.high:.4g}]"
    return f"{spec.name} {spec.axes} {shape}{span}: {spec.meaning}"
