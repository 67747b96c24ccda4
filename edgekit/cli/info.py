"""edgekit info"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.box_contract import Boxes
from edgekit.cli.info_factory import print_factory
from edgekit.cli.output import Json, parse_size, print_json
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory
from edgekit.recipe import find_recipe, is_recipe_folder
from edgekit.report import aligned


def info(
    name: Annotated[
        str,
        typer.Argument(
            help="A model's name, a recipe file, package.module:factory, or a split bundle's folder."
        ),
    ],
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Print its model card, in Markdown, with what was measured."),
    ] = False,
    json: Json = False,
) -> None:
    """What one model takes, gives and costs."""
    if card and (size or frames is not None or json):
        raise UsageError("A card has the recipe's size and no JSON; leave the other options away.")
    if Path(name).is_dir() and not is_recipe_folder(Path(name)):
        if size or frames is not None or card:
            raise UsageError(
                "A bundle has one size and no card; leave --size, --frames and --card away."
            )
        _split_info(Path(name), json=json)
        return
    if is_factory(name):
        if size or frames is not None or card:
            raise UsageError(
                "A factory sets its own size and has no card; leave --size, --frames and --card away."
            )
        print_factory(name, json=json)
        return
    recipe = find_recipe(name)
    if card:
        from edgekit.card import card_of

        print(card_of(recipe), end="")
        return
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
        ("input", given.sentence()),
        *(("output", spec.sentence()) for spec in made),
    ]
    output = getattr(recipe.contract, "output", None)
    if isinstance(output, Boxes):
        shown = f"above {output.score:g}, IoU up to {output.iou:g}, at most {output.limit}"
        rows.append(("pictures", output.resize))
        rows.append(("boxes", f"{shown}; {output.classes} classes: {', '.join(output.used_names)}"))
    print(aligned(rows))


def _split_info(path: Path, *, json: bool) -> None:
    from edgekit.bundle import open_bundle
    from edgekit.split.bundle import GOLDEN_PACKET, SplitFacts

    bundle = open_bundle(path)
    facts = SplitFacts.of(bundle)
    if facts is None:
        raise UsageError(
            f"{path} is a bundle of a whole network; `edgekit inspect {path}` shows it."
        )
    sizes = {
        file: sum(part.stat().st_size for part in _parts(path / file))
        for file in (facts.head, *facts.tails.values(), GOLDEN_PACKET)
    }
    if json:
        print_json(
            {
                "name": bundle.manifest["name"], "target": bundle.manifest["target"],
                "precision": bundle.manifest["precision"], "split": facts.to_json(), "bytes": sizes,
                "inputs": bundle.manifest["inputs"], "outputs": bundle.manifest["outputs"],
            }
        )  # fmt: skip
        return
    least = (
        "not trained to lose channels"
        if facts.least_kept is None
        else f"{facts.least_kept} at least"
    )
    precision = bundle.manifest["precision"]
    rows = [
        ("split", f"{bundle.manifest['name']}, cut at {facts.layer}"),
        ("device", f"{facts.head}, {bundle.manifest['target']} {precision}, {sizes[facts.head]:,} bytes"),
        *(("server", f"{file}, task {name}, {sizes[file]:,} bytes") for name, file in facts.tails.items()),
        ("sends", f"{facts.channels} channels of {facts.height}x{facts.width}, {facts.coding}, {least}"),
        *([] if facts.exit is None else [("exit", f"at {facts.exit['layer']}, from a probability of {facts.exit['threshold']:.3f} on")]),
        ("packet", f"{sizes[GOLDEN_PACKET]:,} bytes for the golden input; tables {facts.hash[:8]}"),
        *(("input", spec.sentence()) for spec in bundle.inputs),
        *(("output", spec.sentence()) for spec in bundle.outputs),
    ]  # fmt: skip
    print(aligned(rows))


def _parts(path: Path) -> list[Path]:
    """A Core ML package is a folder."""
    return [part for part in (path, *path.rglob("*")) if part.is_file()]
