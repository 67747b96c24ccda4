"""A device behind the system's own ssh client, with the user's keys and configuration."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import MissingEnvironmentError
from edgekit.profiling.devices.link import last_line

BROKEN = 255
"""The exit code of ssh where the connection fails; a script's own are below."""
OPTIONS = (
    "BatchMode=yes",  # asks for no password, which nobody could type
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",  # a line that is dead for 15 s is given up
)


@dataclass(frozen=True)
class SshLink:
    host: str
    """As ssh takes it: user@host, or a name of the user's configuration."""
    port: int | None = None
    python: str = "python3"
    temporary: str = "/tmp"

    @property
    def name(self) -> str:
        return f"ssh://{self.host}" + (f":{self.port}" if self.port else "")

    def connect(self) -> None:
        """Each command makes its own connection."""

    def command(self, script: str) -> list[str]:
        """The login shell there may be any; it is asked for nothing but to start `sh`."""
        return [*self._ssh(), "-n", "--", self.host, f"sh -c {shlex.quote(script)}"]

    def push(self, files: dict[str, Path], folder: str) -> None:
        """As a tar archive through one connection."""
        command = [*self._ssh(), "--", self.host, f"tar -x -f - -C {shlex.quote(folder)}"]
        with tempfile.TemporaryFile() as said:
            copying = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
            assert copying.stdin is not None
            try:
                with tarfile.open(fileobj=copying.stdin, mode="w|") as archive:
                    for name, path in files.items():
                        archive.add(path.resolve(), name)
            except BrokenPipeError:  # a reader that is gone; its exit code says why
                pass
            except OSError as error:
                raise MissingEnvironmentError(
                    f"The bundle could not be copied to {self.name}: {error}."
                ) from error
            finally:
                with suppress(BrokenPipeError):
                    copying.stdin.close()
                code = copying.wait()
            said.seek(0)
            told = said.read().decode(errors="replace")
        if code:
            raise MissingEnvironmentError(
                f"The bundle could not be copied to {self.name}: {last_line(told)}."
            )

    def failure(self, code: int, said: str) -> str:
        return last_line(said) if code == BROKEN else ""

    def _ssh(self) -> list[str]:
        client = shutil.which("ssh")
        if client is None:
            raise MissingEnvironmentError(
                "There is no ssh here; install your system's OpenSSH client (Debian: apt install openssh-client)."
            )
        options = [word for option in OPTIONS for word in ("-o", option)]
        return [client, *options, *(["-p", str(self.port)] if self.port else [])]
