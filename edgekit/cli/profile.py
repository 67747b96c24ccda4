"""edgekit profile"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import Json, print_json, progress
from edgekit.errors import LinkError, ParityError, UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.profiling.comparison import Regression
    from edgekit.profiling.of_bundle import ProfileOptions
    from edgekit.profiling.result import Profile

REGRESSED = 3


def profile(
    bundle: Annotated[
        Path | None, typer.Argument(help="A folder that `edgekit export` wrote, for ONNX.")
    ] = None,
    other: Annotated[
        Path | None, typer.Argument(help="Another one, to compare with the first, run in turns.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="local; ssh://user@host[:port][/path/to/python]; adb://serial[/path/to/python]; or folder:PATH, "
            "a package to copy to a device."
        ),
    ] = "local",
    provider: Annotated[
        str | None,
        typer.Option(help="Of the device's onnxruntime, such as XnnpackExecutionProvider."),
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="Show a report that a device wrote, instead of measuring."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Of one run; 0: as many as there are CPUs.")
    ] = 0,
    seconds: Annotated[float, typer.Option(help="To measure latency for.")] = 10.0,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Of a detector or classifier: measure all steps from this picture's file to boxes, here."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier profile, as --json wrote it, to compare with.")
    ] = None,
    max_regression: Annotated[
        str,
        typer.Option(
            help="With --baseline: most that the median may have grown; else exit code 3."
        ),
    ] = "5%",
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML file that needs nothing else.")
    ] = None,
    json: Json = False,
) -> None:
    """What a bundle costs on a device: latency, layers, memory."""
    from edgekit.bundle import open_bundle
    from edgekit.profiling.of_bundle import CPU, ProfileOptions
    from edgekit.profiling.timing import TimingOptions

    options = ProfileOptions(threads, TimingOptions(seconds), image, provider or CPU)
    if image is not None and (device != "local" or from_file is not None or other is not None):
        raise UsageError("--image is measured on this machine, of one bundle.")
    opened = open_bundle(bundle) if bundle is not None else None
    if other is not None and opened is not None:
        if baseline or from_file or html or provider or device != "local":
            raise UsageError(
                "Two bundles are compared on this machine; give no --baseline, --from, --html, --provider or --device."
            )
        _compare(opened, open_bundle(other), options, json=json)
        return
    from edgekit.planning import parse_share
    from edgekit.profiling.comparison import against_baseline, read_baseline
    from edgekit.profiling.of_bundle import machine_here
    from edgekit.profiling.page import write_page

    most = parse_share(max_regression, "the median")
    before = read_baseline(baseline) if baseline is not None else None
    if before is not None and device == "local" and from_file is None:  # before the long work
        before.require_same(options.threads_used, machine_here())
    found = _found(opened, device, from_file, options)
    if isinstance(found, Path):
        _print_package(found, json=json)
        return
    regression = None
    if before is not None:
        before.require_same(found.threads, found.machine)
        regression = against_baseline(found.timing.latency, before, most)
    _print(found, regression, json=json)
    if html is not None:
        write_page(found, html)
    if found.incomplete and from_file is None:
        raise LinkError(
            f"The measurement broke off: {found.incomplete}. What was measured until then is shown, and marked."
        )
    if found.golden is not None and not found.golden.passed:
        raise typer.Exit(ParityError.exit_code)
    raise typer.Exit(0 if regression is None or regression.passed else REGRESSED)


def _print(found: Profile, regression: Regression | None, *, json: bool) -> None:
    if json:
        print_json(found.to_json() | ({"regression": regression.to_json()} if regression else {}))
        return
    print(found.text())
    if regression:
        print(f"\n{regression.sentence()}")


def _found(
    bundle: Bundle | None, device: str, report: Path | None, options: ProfileOptions
) -> Profile | Path:
    """Measured, or read. A Path is a package's."""
    from edgekit.profiling.devices.device import find_device
    from edgekit.profiling.report_file import read_report

    if report is not None:
        if device != "local":
            raise UsageError("A report is read or a device is asked; give --from or --device.")
        return read_report(report, bundle)
    if bundle is None:
        raise UsageError("Give a bundle to measure, or a device's report with --from.")
    asked = find_device(device)
    with progress("profile") as show:
        return asked.measure(bundle, options, show)


def _print_package(place: Path, *, json: bool) -> None:
    if json:
        print_json({"package": str(place)})
        return
    print(f"wrote {place}: copy it to the device and do there what its README.txt says")


def _compare(first: Bundle, second: Bundle, options: ProfileOptions, *, json: bool) -> None:
    from edgekit.profiling.of_bundle import compare_bundles

    with progress("profile") as show:
        show("pairs of runs")
        found = compare_bundles(first, second, options)
    if json:
        print_json(found.to_json())
    else:
        print(found.text())
