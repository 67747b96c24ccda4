"""Two bundles in turns on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.profiling.comparison import Comparison
from edgekit.profiling.devices.link import Link
from edgekit.profiling.devices.remote import (
    RUNNER,
    bundle_files,
    reason_of,
    run_there,
    runner_options,
)
from edgekit.profiling.of_bundle import ProfileOptions
from edgekit.profiling.opened import measured_name, require_measurable
from edgekit.profiling.report_file import parse_comparison

PLACES = ("a", "b")
"""Folders there, as both bundles may have one name."""


def compare_over(
    link: Link,
    bundles: tuple[Bundle, Bundle],
    options: ProfileOptions,
    progress: Callable[[str], None],
) -> Comparison:
    """One that broke off after its first pairs says so.

    Raises UsageError, MissingEnvironmentError or LinkError.
    """
    files: dict[str, Path] = {}
    folders = []
    for place, bundle in zip(PLACES, bundles, strict=True):
        require_measurable(bundle)
        files |= {f"{place}/{name}": path for name, path in bundle_files(bundle).items()}
        folders.append(f"./{place}/{bundle.path.resolve().name}")
    words = [RUNNER, folders[0], "--against", folders[1], *runner_options(options)]
    ended = run_there(link, files, words, progress)
    reason = reason_of(link, ended, needed="bundles")
    found = parse_comparison(ended.told, f"What {link.name} told")
    names = (measured_name(bundles[0]), measured_name(bundles[1]))
    return replace(found, names=names, incomplete=reason or found.incomplete)
