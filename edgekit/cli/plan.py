"""edgekit plan"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import Json, parse_size, print_json, progress, require_drawable
from edgekit.cli.plan_stream import print_stream
from edgekit.errors import UsageError
from edgekit.factory_name import is_factory
from edgekit.recipe import find_recipe
from edgekit.report import aligned

if TYPE_CHECKING:
    from edgekit.planning import MemoryPlan


def plan(
    name: Annotated[
        str, typer.Argument(help="A model's name, a recipe file, or package.module:factory.")
    ],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint file, or 'hub' for the official one.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    elements: Annotated[
        str, typer.Option(help="Size of an activation's element: fp32, fp16 or int8.")
    ] = "fp32",
    depthwise_in_place: Annotated[
        bool,
        typer.Option(
            "--depthwise-in-place",
            help="Depthwise convolutions overwrite their input, as TinyEngine has them.",
        ),
    ] = False,
    memory_budget: Annotated[
        str | None, typer.Option(help="Least extra work within this, such as 64MB or 171.5KiB.")
    ] = None,
    max_overhead: Annotated[
        str | None, typer.Option(help="Least memory within this much extra work, such as 10%.")
    ] = None,
    tiles: Annotated[
        str | None, typer.Option(help="Only this grid, ROWSxCOLUMNS, where it helps most.")
    ] = None,
    no_streams: Annotated[
        bool, typer.Option("--no-streams", help="Only tiles that keep nothing from one another.")
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(help="A video as a stream that takes this many input frames a step."),
    ] = None,
    overlaps: Annotated[
        bool,
        typer.Option(
            "--overlaps",
            help="Of a stream: what chunks with an overlap, instead of kept lines, differ by.",
        ),
    ] = False,
    clip: Annotated[
        Path | None,
        typer.Option("--input", help="FILE.npy for --overlaps; default: the model's example."),
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Print every operator.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw live bytes over the steps: FILE.png or FILE.svg.")
    ] = None,
    json: Json = False,
) -> None:
    """Where activations take memory, and how to need less."""
    require_drawable(picture)
    if stream is None and (overlaps or clip):
        raise UsageError("--overlaps and --input belong to --stream.")
    others = memory_budget or max_overhead or picture or steps or no_streams or depthwise_in_place
    if stream is not None and (others or elements != "fp32"):
        raise UsageError(
            "--stream plans the whole network as one stream of float32, as export writes it; of the other "
            "options --tiles, --overlaps and --input belong to it."
        )
    height, width = parse_size(size)
    recipe = None if is_factory(name) else find_recipe(name)
    if recipe is None and (weights or size or frames is not None):
        raise UsageError(
            "--weights, --size and --frames belong to models with a recipe; a factory sets its own."
        )

    from edgekit.contract import Size
    from edgekit.model import model_of_factory, model_of_recipe
    from edgekit.planning import memory_plan

    with progress("plan") as show:
        show("load")
        if recipe is not None:
            model = model_of_recipe(recipe, weights, Size(height, width, frames))
        else:
            model = model_of_factory(name)
    if stream is not None:
        print_stream(model, stream, tiles, overlaps, clip, json)
        return
    with progress("plan") as show:
        show("search")
        found = memory_plan(
            model, elements=elements, depthwise_in_place=depthwise_in_place,
            memory_budget=memory_budget, max_overhead=max_overhead, tiles=tiles,
            streams=not no_streams,
        )  # fmt: skip
    if picture is not None:
        from edgekit.plan.picture import draw, drawing

        draw(drawing(found.whole, found.step_bytes, found.spans, model.name, elements), picture)
    if json:
        written = {"model": model.name, "elements": elements, **found.to_json()}
        if steps:
            written["steps"] = [
                {**vars(step), "shape": list(step.shape), "planned_bytes": planned}
                for step, planned in found.steps
            ]
        print_json(written)
        return
    print(_text(found, elements, steps))
    if picture is not None:
        print(f"\nwrote {picture}")


def _text(found: MemoryPlan, elements: str, steps: bool) -> str:
    from edgekit.plan.choose import in_units
    from edgekit.plan.stages import runs_within

    shape = found.whole.steps[0].shape
    peak = found.whole.peak
    rows = [("live activations", elements, f"beside the input {_sides(shape)}")]
    rows.append(
        ("whole", in_units(peak.live_bytes), f"at {peak.operator} '{peak.name}' {peak.source}")
    )
    if found.found is not None and found.floor is not None:
        worst = found.found.worst
        times = peak.live_bytes / max(1, found.peak_bytes)
        rows.append(
            ("planned", in_units(found.peak_bytes), f"{times:.1f} times less, at '{worst.worst}'")
        )
        rows.append(
            (
                "extra work",
                f"{found.overhead:.1%}",
                f"of {found.whole.macs / 1e6:,.1f} million MACs",
            )
        )
        rows.append(("floor", in_units(found.floor.bytes), f"set by {found.floor.operator}"))
    parts = [aligned(rows)]
    if found.why_not:
        parts.append(found.why_not)
    if found.trade:
        table = [("memory", "extra work", "stretches")]
        table += [
            (
                in_units(point.peak_bytes),
                f"{point.overhead:.1%}",
                str(len(runs_within(found.network, point))),
            )
            for point in found.trade
        ]
        parts.append(
            "Less memory for more work (--memory-budget, --max-overhead):\n" + aligned(table)
        )
    if found.stretches:
        stretches = [("from", "to", "tiles", "peak", "million MACs", "extra")]
        for stretch in found.stretches:
            once = found.once(stretch)
            extra = f"{stretch.macs / once - 1:.1%}" if once else ""
            tiling = "at once" if stretch.tiling.count == 1 else str(stretch.tiling)
            million = f"{stretch.macs / 1e6:,.2f}"
            peak_text = in_units(stretch.peak_bytes)
            stretches.append(
                (stretch.source.name, stretch.result.name, tiling, peak_text, million, extra)
            )
        parts.append(aligned(stretches))
    alive = [("alive at the whole's peak", "shape", "size")]
    alive += [
        (name, _sides(sizes), in_units(count)) for name, sizes, count in found.whole.alive_at_peak
    ]
    parts.append(aligned(alive))
    if found.barriers:
        seen = [("computed whole", "why", "line")]
        seen += [(f"{b.operator} '{b.name}'", b.reason, b.source) for b in found.barriers]
        parts.append(aligned(seen))
    if found.advice:
        parts.append(found.advice)
    if steps:
        operators = [("step", "whole", "planned", "operator", "shape", "line")]
        for number, (step, planned) in enumerate(found.steps):
            operators.append(
                (str(number), in_units(step.live_bytes), in_units(planned), step.operator,
                 _sides(step.shape), step.source)
            )  # fmt: skip
        parts.append(aligned(operators))
    return "\n\n".join(parts)


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
