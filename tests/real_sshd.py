"""A real sshd on the loopback interface, with keys and a configuration of its own, and a client that uses them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
LogLevel ERROR
"""
CLIENT = """\
IdentityFile {folder}/user
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
"""
PRIVILEGE_FOLDER = Path("/run/sshd")
"""Where sshd of root locks itself up; packages make it when they start the service."""
STARTS_WITHIN_S = 20


@dataclass(frozen=True)
class Sshd:
    port: int
    process: subprocess.Popen[bytes]

    def break_connections(self) -> None:
        """Ends the processes of all connections, as a line that breaks would."""
        for pid in children(self.process.pid):
            for one in (*children(pid), pid):
                if b"sshd" in Path(f"/proc/{one}/cmdline").read_bytes():
                    os.kill(one, signal.SIGKILL)


def children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(status.parent.name))
    return found


def reason_against() -> str:
    """Why none can be started here; "" where one can."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        if _found(program) is None:
            return f"there is no {program} here (apt install openssh-server openssh-client)"
    if not Path("/proc/self/stat").exists():
        return "this system has no /proc"
    return ""


@contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """`folder/bin` has an `ssh` that knows the keys."""
    folder.chmod(0o700)
    for name in ("host", "user"):
        command = [_found("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run([str(word) for word in command], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {_found("ssh")} -F {folder}/client "$@"\n')
    wrapper.chmod(0o755)
    if os.getuid() == 0:
        PRIVILEGE_FOLDER.mkdir(exist_ok=True)
    process = subprocess.Popen([str(_found("sshd")), "-D", "-e", "-f", str(folder / "server")])
    try:
        _wait(port)
        yield Sshd(port, process)
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
