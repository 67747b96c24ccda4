"""edgekit profile"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import Json, print_json, progress
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.profiling.of_bundle import ProfileOptions

REGRESSED = 3


def profile(
    bundle: Annotated[Path, typer.Argument(help="A folder that `edgekit export` wrote, for ONNX.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another one, to compare with the first, run in turns.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Of one run; 0: as many as there are CPUs.")
    ] = 0,
    seconds: Annotated[float, typer.Option(help="To measure latency for.")] = 10.0,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier profile, as --json wrote it, to compare with.")
    ] = None,
    max_regression: Annotated[
        str,
        typer.Option(
            help="With --baseline: most that the median may have grown; else exit code 3."
        ),
    ] = "5%",
    json: Json = False,
) -> None:
    """What a bundle costs here: latency, layers, memory."""
    from edgekit.bundle import open_bundle
    from edgekit.profiling.of_bundle import ProfileOptions
    from edgekit.profiling.timing import TimingOptions

    options = ProfileOptions(threads, TimingOptions(seconds))
    opened = open_bundle(bundle)
    if other is not None:
        if baseline is not None:
            raise UsageError("Give a second bundle or --baseline, not both.")
        _compare(opened, open_bundle(other), options, json=json)
        return
    from edgekit.planning import parse_share
    from edgekit.profiling.comparison import against_baseline, read_baseline
    from edgekit.profiling.of_bundle import machine_here, profile_bundle

    most = parse_share(max_regression, "the median")
    before = read_baseline(baseline) if baseline is not None else None
    if before is not None:  # before the long work
        before.require_same(options.threads_used, machine_here())
    with progress("profile") as show:
        found = profile_bundle(opened, options, show)
    regression = None
    if before is not None:
        regression = against_baseline(found.timing.latency, before, most)
    if json:
        print_json(found.to_json() | ({"regression": regression.to_json()} if regression else {}))
    else:
        print(found.text())
        if regression:
            print(f"\n{regression.sentence()}")
    raise typer.Exit(0 if regression is None or regression.passed else REGRESSED)


def _compare(first: Bundle, second: Bundle, options: ProfileOptions, *, json: bool) -> None:
    from edgekit.profiling.of_bundle import compare_bundles

    with progress("profile") as show:
        show("pairs of runs")
        found = compare_bundles(first, second, options)
    if json:
        print_json(found.to_json())
    else:
        print(found.text())
