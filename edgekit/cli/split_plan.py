"""edgekit split plan, edgekit split exit"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import Json, parse_size, print_json, progress
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.factory_name import is_factory

if TYPE_CHECKING:
    from edgekit.model import Model
    from edgekit.split_pictures import Pictures

UNITS = {"bit/s": 1.0, "kbit/s": 1e3, "mbit/s": 1e6, "gbit/s": 1e9}

ModelName = Annotated[
    str, typer.Argument(help="A model's name, a recipe file, or package.module:factory.")
]
Weights = Annotated[str | None, typer.Option(help="Checkpoint file, or 'hub'.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="JSON of classes by picture's file name; without, the model's answers are right."
    ),
]


def plan(
    model: ModelName,
    uplink: Annotated[str, typer.Option(help="Goodput, such as 1Mbit/s.")] = "1Mbit/s",
    rtt: Annotated[str, typer.Option(help="Round trip, such as 30ms.")] = "30ms",
    device: Annotated[
        Path | None,
        typer.Option(help="Latency profile of the device (JSON); default: this machine."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of pictures for bytes and accuracy.")
    ] = None,
    labels: Labels = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(help="A split bundle of this model, tried with several numbers of channels."),
    ] = None,
    exit_file: Annotated[
        list[Path] | None, typer.Option("--exit", help="An early exit from `edgekit split exit`.")
    ] = None,
    weights: Weights = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    queue: Annotated[str, typer.Option(help="Wait at the server, such as 5ms.")] = "0ms",
    within: Annotated[
        float, typer.Option(min=0, help="Points of accuracy that a winner may lose.")
    ] = 1.0,
    runs: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 10,
    save_profile: Annotated[
        Path | None, typer.Option(help="Write what was measured here as a latency profile.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare computing here, sending a picture, and cuts that save bytes: latency, bytes, accuracy."""
    from edgekit.split.candidates import Link
    from edgekit.split.latency_profile import LatencyProfile

    link = Link(parse_bandwidth(uplink), parse_milliseconds(rtt))
    profile = LatencyProfile.read(device) if device else None
    if labels is not None and pictures is None:
        raise UsageError("--labels belongs to --pictures.")

    from edgekit.bundle import open_bundle
    from edgekit.split.bundle import SplitBundle
    from edgekit.split.early_exit import EarlyExit
    from edgekit.split_measuring import PlanOptions
    from edgekit.split_planning import split_plan

    heads = [SplitBundle(open_bundle(path)) for path in head or []]
    exits = [EarlyExit.read(path) for path in exit_file or []]
    with progress("split plan") as show:
        show("load")
        loaded = _model(model, weights, size)
        seen = _pictures(loaded, pictures, labels)
    options = PlanOptions(link, parse_milliseconds(queue), runs, within)
    with progress("split plan") as show:
        found = split_plan(loaded, seen, options, profile, heads, exits, show)
    if save_profile is not None:
        here = LatencyProfile(
            f"{platform.system()} {platform.machine()}", found.model, found.times.by_layer,
            input_shape=tuple(loaded.example_inputs[0].shape),
        )  # fmt: skip
        here.write(save_profile)
    print_json(found.to_json()) if json else print(found.table())


def train_early_exit(
    model: ModelName,
    layer: Annotated[str, typer.Option(help="Behind which it sits.")],
    pictures: Annotated[Path, typer.Option(help="Folder of pictures to train on.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    labels: Labels = None,
    weights: Weights = None,
    size: Annotated[str | None, typer.Option(help="Picture, HEIGHTxWIDTH in pixels.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 300,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json: Json = False,
) -> None:
    """Train a classifier on an early layer's features, and choose when it may answer."""
    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another place, or replace it with --force.")
    if not output.absolute().parent.is_dir():
        raise MissingEnvironmentError(f"There is no folder {output.absolute().parent}.")
    from edgekit.split.early_exit import ExitOptions, train_exit
    from edgekit.split_pictures import inputs_of, required_contract

    with progress("split exit") as show:
        show("load")
        loaded = _model(model, weights, size)
        seen = _pictures(loaded, pictures, labels)
    assert seen is not None
    with progress("split exit") as show:
        show("train")
        images = inputs_of(seen.pixels, required_contract(loaded))
        made = train_exit(loaded.module, layer, images, seen.labels, ExitOptions(steps))
    made.exit.write(output)
    if json:
        print_json(
            {
                "file": str(output), "layer": layer, "threshold": made.exit.threshold, "rate": made.rate,
                "accuracy": made.accuracy if made.rate else None, "whole_accuracy": made.whole_accuracy,
                "held_out": made.held_out,
            }
        )  # fmt: skip
        return
    print(made.sentence())
    print(f"wrote {output}")


def parse_bandwidth(text: str) -> float:
    """ "1.5Mbit/s" in bits per second. Raises UsageError."""
    found = re.fullmatch(r"([0-9.]+)\s*([kmg]?bit/s)", text.strip().lower())
    try:
        bits = float(found[1]) * UNITS[found[2]] if found else 0.0
    except ValueError:
        bits = 0.0
    if bits <= 0:
        raise UsageError(f"'{text}' is no bandwidth, such as 250kbit/s or 1Mbit/s.")
    return bits


def parse_milliseconds(text: str) -> float:
    """ "30ms" or "0.1s". Raises UsageError."""
    found = re.fullmatch(r"([0-9.]+)\s*(ms|s)", text.strip().lower())
    try:
        if found:
            return float(found[1]) * (1000 if found[2] == "s" else 1)
    except ValueError:
        pass
    raise UsageError(f"'{text}' is no time, such as 30ms or 0.1s.")


def _model(name: str, weights: str | None, size: str | None) -> Model:
    from edgekit.contract import Size
    from edgekit.model import model_of_factory, model_of_recipe
    from edgekit.recipe import find_recipe

    if is_factory(name):
        if weights or size:
            raise UsageError("--weights and --size belong to models with a recipe.")
        return model_of_factory(name)
    from edgekit.split_exporting import with_tables
    from edgekit.zoo.split.network import SplitNetwork

    loaded = model_of_recipe(find_recipe(name), weights, Size(*parse_size(size), None))
    if isinstance(loaded.module, SplitNetwork):
        with_tables(loaded)
    return loaded


def _pictures(model: Model, folder: Path | None, labels: Path | None) -> Pictures | None:
    from edgekit.split_pictures import read_pictures, required_contract

    if folder is None:
        return None
    contract = required_contract(model)
    return read_pictures(folder, contract, None if labels is None else _labels(labels))


def _labels(path: Path) -> dict[str, int]:
    import json

    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise UsageError(f"The labels {path} cannot be read: {reason}.") from error
    if not isinstance(data, dict) or not all(type(value) is int for value in data.values()):
        raise UsageError(f'{path} must be one JSON object such as {{"cat.jpg": 281}}.')
    return data
