"""What all devices have in common, and how the command line names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.profiling.devices.adb import AdbLink
from edgekit.profiling.devices.folder import write_package
from edgekit.profiling.devices.perf_tool import is_perf_tool, measure_by_tool
from edgekit.profiling.devices.remote import measure_over
from edgekit.profiling.devices.ssh import SshLink
from edgekit.profiling.of_bundle import CPU, ProfileOptions, profile_bundle
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


@dataclass(frozen=True)
class Local:
    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Profile:
        if options.provider != CPU:
            raise UsageError(
                f"Here bundles are measured with {CPU}; `python -m edgekit_runner --provider {options.provider}` "
                "measures with another, or name a --device."
            )
        return profile_bundle(bundle, options, progress)


@dataclass(frozen=True)
class Remote:
    link: SshLink | AdbLink

    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Profile:
        if is_perf_tool(self.link.python):
            return measure_by_tool(self.link, bundle, options, progress)
        return measure_over(self.link, bundle, options, progress)


@dataclass(frozen=True)
class Folder:
    path: Path

    def measure(self, bundle: Bundle, options: ProfileOptions, progress: Progress) -> Path:
        progress("package")
        return write_package(self.path, bundle, options)


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
