"""edgekit info"""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.output import Json, parse_size, print_json
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
    latent, video = recipe.specs(height, width, frames)
    count = video.shape[2]

    from edgekit.zoo.cost import network_cost

    cost = network_cost(recipe, latent.shape)
    gmac = cost.macs / count / 1e9
    if json:
        print_json(
            {
                "name": recipe.name,
                "family": recipe.family,
                "summary": recipe.summary,
                "source": recipe.source,
                "parameters": cost.parameters,
                "macs": cost.macs,
                "gmac_per_frame": round(gmac, 4),
                "inputs": [latent.to_json()],
                "outputs": [video.to_json()],
                "latent_scaling": recipe.scaling.to_json(),
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
    rows = [
        ("model", recipe.name),
        ("what", recipe.summary),
        ("source", recipe.source),
        ("weights", f"{where}, {weights.licence}".removesuffix(", ")),
        ("parameters", f"{cost.parameters:,}"),
        ("cost", f"{gmac:.2f} GMAC per frame at {video.shape[3]}x{video.shape[4]}, {count} frames"),
        ("input", f"{latent.name} {latent.axes} {'x'.join(map(str, latent.shape))}"),
        (
            "output",
            f"{video.name} {video.axes} {'x'.join(map(str, video.shape))} in [{video.low:g}, {video.high:g}], not clamped",
        ),
    ]
    print(aligned(rows))
