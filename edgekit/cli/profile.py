"""edgekit profile"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.link_options import Ca, Keep, Tls, TokenFile, check_keep, client_tls, read_token
from edgekit.cli.output import Json, print_json, progress
from edgekit.errors import LinkError, ParityError, UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.profiling.comparison import Regression
    from edgekit.profiling.end_to_end import Kind, Source
    from edgekit.profiling.of_bundle import ProfileOptions
    from edgekit.profiling.result import Profile
    from edgekit.profiling.split_pipeline import Sending
    from edgekit.split.client import LinkOptions

REGRESSED = 3
SECONDS = 10.0
SOURCES = {"--image", "--video", "--latent"}
SENDING = {"--to", "--keep", "--token-file", "--tls", "--ca"}
MOST_REGRESSION = "5%"


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
        int | None,
        typer.Option(min=0, help="Of one run; 0, the default: as many as there are CPUs."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="To measure latency for; 10 by default.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Of a network that takes pictures: measure all steps from this file to boxes, classes or a PNG, here."
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="The same of a video, frame by frame; needs PyAV.")
    ] = None,
    latent: Annotated[
        Path | None,
        typer.Option(
            help="Of a video decoder: all steps from this .npy file to an encoded video, here; needs PyAV."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Of a split bundle, with --image or --video: HOST:PORT of `edgekit split serve`, where its tail "
            "runs; else it runs here."
        ),
    ] = None,
    keep: Keep = None,
    token_file: TokenFile = None,
    tls: Tls = False,
    ca: Ca = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier profile, as --json wrote it, to compare with.")
    ] = None,
    max_regression: Annotated[
        str | None,
        typer.Option(
            help="With --baseline: most that the median may have grown; else exit code 3. 5% by default."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML file that needs nothing else.")
    ] = None,
    json: Json = False,
) -> None:
    """What a bundle costs on a device: latency, layers, memory."""
    from edgekit.bundle import open_bundle
    from edgekit.profiling.of_bundle import CPU, ProfileOptions, machine_here
    from edgekit.profiling.timing import TimingOptions
    from edgekit.split.client import LinkOptions

    source = _source({"image": image, "video": video, "latent": latent})
    given = {
        "--device": device != "local", "--from": from_file, "--provider": provider, "--threads": threads is not None,
        "--seconds": seconds is not None, f"--{source.kind if source else ''}": source, "--baseline": baseline,
        "--max-regression": max_regression, "--html": html, "--to": to is not None, "--keep": keep is not None,
        "--token-file": token_file, "--tls": tls, "--ca": ca,
    }  # fmt: skip
    _refuse_idle({name for name, value in given.items() if value}, device, other)
    timing = TimingOptions(SECONDS if seconds is None else seconds)
    opened = open_bundle(bundle) if bundle is not None else None
    link = LinkOptions(read_token(token_file), client_tls(tls, ca))
    sending = _sending(opened, to, link, keep)
    options = ProfileOptions(threads or 0, timing, source, provider or CPU, sending)
    if other is not None and opened is not None:
        _compare(opened, open_bundle(other), device, options, json=json)
        return
    from edgekit.planning import parse_share
    from edgekit.profiling.comparison import against_baseline, read_baseline
    from edgekit.profiling.page import write_page

    most = parse_share(max_regression or MOST_REGRESSION, "the median")
    before = read_baseline(baseline) if baseline is not None else None
    if before is not None and device == "local" and from_file is None and provider is None:
        before.require_same(options.threads_used, machine_here())  # before the long work
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


def _compare(
    first: Bundle, second: Bundle, device: str, options: ProfileOptions, *, json: bool
) -> None:
    from edgekit.profiling.devices.device import find_device

    asked = find_device(device)
    with progress("profile") as show:
        found = asked.compare((first, second), options, show)
    if json:
        print_json(found.to_json())
    else:
        print(found.text())
    if found.incomplete:
        raise LinkError(
            f"The measurement broke off: {found.incomplete}. What was measured until then is shown, and marked."
        )
    if not all(golden.passed for golden in found.goldens):
        raise typer.Exit(ParityError.exit_code)


def _source(files: dict[Kind, Path | None]) -> Source | None:
    from edgekit.profiling.end_to_end import Source

    given = [Source(kind, path) for kind, path in files.items() if path is not None]
    if len(given) > 1:
        raise UsageError("Give one of --image, --video and --latent.")
    return given[0] if given else None


def _sending(bundle: Bundle | None, to: str | None, link: LinkOptions, keep: int | None) -> Sending:
    """Raises UsageError, also for a whole network, which sends nothing."""
    from edgekit.profiling.split_pipeline import HERE, Sending
    from edgekit.split.bundle import SplitBundle
    from edgekit.split.client import Address

    if bundle is None or (to is None and keep is None):
        return HERE
    check_keep(SplitBundle(bundle), keep)
    return Sending(Address.parse(to) if to is not None else None, link, keep)


def _refuse_idle(given: set[str], device: str, other: Path | None) -> None:
    """Raises UsageError for options that would do nothing."""
    for idle, allowed, why in (
        (other is not None, {"--device", "--provider", "--threads", "--seconds"},
         "Two bundles are compared by their latency, run in turns"),
        ("--from" in given, {"--from", "--baseline", "--max-regression", "--html"},
         "A report is read, and nothing is measured"),
        (device.startswith("folder:"), {"--device", "--provider", "--threads", "--seconds"},
         "A package is written, and nothing is measured before `edgekit profile --from` reads its report"),
        (device != "local", given - SOURCES - SENDING,
         "All steps from a file on are measured on this machine only"),
        ("--provider" in given, given - SOURCES - SENDING,
         "Other providers are measured by the runner, which knows no files but the bundle's"),
        (not given & SOURCES, given - SENDING,
         "Packets are sent of a picture or a video; there is no --image and no --video"),
        ("--to" not in given, given - {"--token-file", "--tls", "--ca"},
         "There is no server that --to names"),
        ("--max-regression" in given and "--baseline" not in given, given - {"--max-regression"},
         "There is no --baseline to be slower than"),
    ):  # fmt: skip
        left = sorted(given - allowed)
        if idle and left:
            raise UsageError(f"{why}; leave {left[0]} away.")
