"""A package for a device that takes files only: the bundle, the runner, and the one command to run there."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.profiling.devices.remote import RUNNER, bundle_files, runner_arguments, runner_file
from edgekit.profiling.of_bundle import ProfileOptions
from edgekit.profiling.opened import require_measurable

REPORT, README = "report.json", "README.txt"
TEXT = """\
Measures {bundle} on this device, with Python 3.8 or newer, numpy and onnxruntime:

    pip install numpy onnxruntime
    {command}

Then bring {report} back, and where edgekit is:

    edgekit profile --from {report}

A run that was stopped leaves a report of what it had measured by then.
"""


def write_package(place: Path, bundle: Bundle, options: ProfileOptions) -> Path:
    """Returns its folder, which is new or was empty. Raises UsageError or MissingEnvironmentError."""
    require_measurable(bundle)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} exists and is not empty; give a new folder for the package.")
    command = f"python3 {shlex.join(runner_arguments(bundle, options))} --output {REPORT}"
    try:
        for name, source in {RUNNER: runner_file(), **bundle_files(bundle)}.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place / name)
        text = TEXT.format(bundle=bundle.path.resolve().name, command=command, report=REPORT)
        (place / README).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MissingEnvironmentError(
            f"{place} cannot be written: {error.strerror or error}; give another folder."
        ) from error
    return place
