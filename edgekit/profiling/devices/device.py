"""What all devices have in common, and how the command line names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.profiling.comparison import Comparison
from edgekit.profiling.devices.adb import AdbLink
from edgekit.profiling.devices.folder import write_package
from edgekit.profiling.devices.here import HereLink
from edgekit.profiling.devices.pairs import compare_over
from edgekit.profiling.devices.perf_tool import is_perf_tool, measure_by_tool
from edgekit.profiling.devices.remote import measure_over
from edgekit.profiling.devices.ssh import SshLink
from edgekit.profiling.of_bundle import CPU, ProfileOptions, compare_bundles, profile_bundle
from edgekit.profiling.result import Profile

Progress = Callable[[str], None]
FORMS = (
    "local, ssh://user@host[:port][/path/to/python], adb://serial[/path/to/python] or folder:PATH"
)
SSH = re.compile(
    r"ssh://(?P<host>(?:[^@/:\s]+@)?[^@/:\s-][^@/:\s]*)(?::(?P<port>\d{1,5}))?(?P<python>/\S+)?"
)
ADB = re.compile(r"adb://(?P<serial>[^/\s-][^/\s]*)(?P<python>/\S+)?")


class Device(Protocol):
    def measure(
        self, bundle: Bundle, options: ProfileOptions, progress: Progress
    ) -> Profile | Path:
        """The profile, or the folder of a package that is to be copied to the device.

        Raises UsageError, or MissingEnvironmentError where the device cannot be reached or lacks something.
        """

    def compare(
        self, bundles: tuple[Bundle, Bundle], options: ProfileOptions, progress: Progress
    ) -> Comparison:
        """In turns. Raises the same, and UsageError where bundles cannot be run so."""


@dataclass(frozen=True)
class Local:
    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Profile:
        if options.provider != CPU:
            return measure_over(HereLink(), bundle, options, progress)
        return profile_bundle(bundle, options, progress)

    def compare(
        self, bundles: tuple[Bundle, Bundle], options: ProfileOptions, progress: Progress
    ) -> Comparison:
        if options.provider != CPU:
            return compare_over(HereLink(), bundles, options, progress)
        progress("pairs of runs")
        return compare_bundles(*bundles, options)


@dataclass(frozen=True)
class Remote:
    link: SshLink | AdbLink

    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Profile:
        if is_perf_tool(self.link.python):
            return measure_by_tool(self.link, bundle, options, progress)
        return measure_over(self.link, bundle, options, progress)

    def compare(
        self, bundles: tuple[Bundle, Bundle], options: ProfileOptions, progress: Progress
    ) -> Comparison:
        if is_perf_tool(self.link.python):
            raise UsageError(
                "onnxruntime's perf tool runs one file after the other, so what the device does meanwhile would be "
                "in their ratio; name a Python there, or profile each of them."
            )
        return compare_over(self.link, bundles, options, progress)


@dataclass(frozen=True)
class Folder:
    path: Path

    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Path:
        progress("package")
        return write_package(self.path, bundle, options)

    def compare(
        self,
        bundles: tuple[Bundle, Bundle],  # noqa: ARG002
        options: ProfileOptions,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> Comparison:
        raise UsageError(
            "A package holds one bundle; make one of each, and give the report of the first as --baseline to "
            "`edgekit profile --from` of the other."
        )


def find_device(name: str) -> Device:
    """Raises UsageError for a name that is none of `FORMS`."""
    if name == "local":
        return Local()
    if name.startswith("folder:") and name != "folder:":
        return Folder(Path(name.removeprefix("folder:")))
    if found := SSH.fullmatch(name):
        port = int(found["port"] or 0) or None
        return Remote(SshLink(found["host"], port, found["python"] or "python3"))
    if found := ADB.fullmatch(name):
        return Remote(AdbLink(found["serial"], found["python"] or "python3"))
    raise UsageError(f"'{name}' is no device: give {FORMS}.")
