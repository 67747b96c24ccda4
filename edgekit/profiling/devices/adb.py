"""An Android device behind the `adb` command-line client."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import MissingEnvironmentError
from edgekit.profiling.devices.link import last_line

NETWORKED = re.compile(r".+:\d+")
OWN_WORDS = ("adb: ", "error: ")
"""How the client begins what it says itself."""


@dataclass(frozen=True)
class AdbLink:
    serial: str
    """As `adb devices` lists it; host:port of a device in the network is connected first."""
    python: str = "python3"
    temporary: str = "/data/local/tmp"

    @property
    def name(self) -> str:
        return f"adb://{self.serial}"

    def command(self, script: str) -> list[str]:
        return [*self._adb(), "shell", "-n", "-T", script]

    def connect(self) -> None:
        """Raises MissingEnvironmentError."""
        if not NETWORKED.fullmatch(self.serial):
            return
        done = self._run(["connect", self.serial])
        if (
            "connected to" not in done.stdout
        ):  # also "already connected"; the exit code is 0 either way
            raise MissingEnvironmentError(
                f"{self.name} cannot be reached: {last_line(done.stdout + done.stderr)}."
            )

    def push(self, files: dict[str, Path], folder: str) -> None:
        """As one tree: a connection for each file would take longer than a small bundle."""
        with tempfile.TemporaryDirectory(prefix="edgekit-push-") as tree:
            for name, path in files.items():
                place = Path(tree) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                _same_file(path.resolve(), place)
            tops = sorted({name.partition("/")[0] for name in files})
            done = self._run(["push", *(str(Path(tree) / top) for top in tops), f"{folder}/"])
        if done.returncode:
            raise MissingEnvironmentError(
                f"The bundle could not be copied to {self.name}: {last_line(done.stderr or done.stdout)}."
            )

    def failure(self, code: int, said: str) -> str:
        last = last_line(said)
        return last if code and last.startswith(OWN_WORDS) else ""

    def _run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        command = [*self._adb(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _adb(self) -> list[str]:
        client = shutil.which("adb")
        if client is None:
            raise MissingEnvironmentError(
                "There is no adb here; install Android's platform tools (Debian: apt install adb)."
            )
        return [client, "-s", self.serial]


def _same_file(path: Path, place: Path) -> None:
    """The client would send a symbolic link as one."""
    try:
        place.hardlink_to(path)
    except OSError:  # on another disk
        shutil.copyfile(path, place)
