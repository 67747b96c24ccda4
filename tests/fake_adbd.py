"""The device's side of adb's transport, as far as the real client needs it: a shell and a place for files.

After AOSP's protocol.txt, SYNC.TXT and the shell protocol v2. Messages are six little-endian words
(command, two arguments, length, sum of bytes, command inverted) and a payload.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

VERSION, MOST_BYTES = 0x01000000, 1 << 18
BANNER = b"device::ro.product.name=fake;ro.product.model=fake;ro.product.device=fake;features=shell_v2,cmd"
STDOUT, STDERR, EXIT = 1, 2, 3
WITHIN_S = 30


@dataclass
class Stream:
    """One of the client's, with what it sent."""

    theirs: int
    received: bytearray = field(default_factory=bytearray)
    may_send: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)
    lost: bool = False
    """With the line: nobody says any more that it may send."""

    def take(self, count: int) -> bytes:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, WITHIN_S)
            taken = bytes(self.received[:count])
            del self.received[:count]
        return taken


class FakeDevice:
    """One connection at a time; its shell is this machine's, with `environment`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.socket: socket.socket | None = None
        self.sending = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def unplug(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.socket, _ = self.listener.accept()
                with suppress(OSError, EOFError, struct.error):
                    self._serve(self.socket)

    def _serve(self, line: socket.socket) -> None:
        streams: dict[int, Stream] = {}
        try:
            self._answer(line, streams)
        finally:
            for stream in streams.values():
                stream.lost = True
                stream.may_send.set()

    def _answer(self, line: socket.socket, streams: dict[int, Stream]) -> None:
        while True:
            command, first, length = self._header(line)
            payload = _exactly(line, length)
            if command == b"CNXN":
                self._send(b"CNXN", VERSION, MOST_BYTES, BANNER)
            elif command == b"OPEN":
                stream = streams[first] = Stream(first)
                self._send(b"OKAY", first, first)
                service = payload.rstrip(b"\0").decode()
                threading.Thread(target=self._service, args=(stream, service), daemon=True).start()
            elif command == b"WRTE" and first in streams:
                with streams[first].changed:
                    streams[first].received += payload
                    streams[first].changed.notify_all()
                self._send(b"OKAY", first, first)
            elif command == b"OKAY" and first in streams:
                streams[first].may_send.set()
            elif command == b"CLSE":
                streams.pop(first, None)

    def _header(self, line: socket.socket) -> tuple[bytes, int, int]:
        words = struct.unpack("<4sIIIII", _exactly(line, 24))
        return words[0], words[1], words[3]

    def _send(self, command: bytes, first: int, second: int, payload: bytes = b"") -> None:
        inverted = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        head = struct.pack(
            "<4sIIIII", command, first, second, len(payload), sum(payload) & 0xFFFFFFFF, inverted
        )
        assert self.socket is not None
        with self.sending:
            self.socket.sendall(head + payload)

    def _write(self, stream: Stream, data: bytes) -> None:
        """Each message waits until the one before was taken."""
        for start in range(0, len(data), MOST_BYTES // 2):
            stream.may_send.clear()
            if stream.lost:  # the client may be back, on another line
                raise OSError("the client went away")
            self._send(b"WRTE", stream.theirs, stream.theirs, data[start : start + MOST_BYTES // 2])
            if not stream.may_send.wait(WITHIN_S) or stream.lost:
                raise OSError("the client does not listen")

    def _service(self, stream: Stream, service: str) -> None:
        with suppress(OSError, AssertionError):
            if service.startswith("shell,v2"):
                self._shell(stream, service.partition(":")[2])
            elif service.startswith("sync:"):
                self._sync(stream)
            self._send(b"CLSE", stream.theirs, stream.theirs)

    def _shell(self, stream: Stream, script: str) -> None:
        running = subprocess.Popen(
            ["sh", "-c", script], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        sending = threading.Lock()

        def forward(pipe: IO[bytes], kind: int) -> None:
            """Closed when the client went away, so that what writes into it ends."""
            with pipe, suppress(OSError):
                while data := os.read(pipe.fileno(), 1 << 16):
                    with sending:
                        self._write(stream, struct.pack("<BI", kind, len(data)) + data)

        assert running.stdout is not None
        assert running.stderr is not None
        pipes = ((running.stdout, STDOUT), (running.stderr, STDERR))
        threads = [threading.Thread(target=forward, args=pipe, daemon=True) for pipe in pipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = running.wait()
        status = code if code >= 0 else 128 - code
        self._write(stream, struct.pack("<BIB", EXIT, 1, status))

    def _sync(self, stream: Stream) -> None:
        while True:
            command, length = struct.unpack("<4sI", stream.take(8))
            if command == b"QUIT":
                return
            path = Path(stream.take(length).decode())
            if command == b"STAT":
                self._write(stream, b"STAT" + _status(path))
            elif command == b"SEND":
                self._receive(stream, Path(str(path).rpartition(",")[0]))

    def _receive(self, stream: Stream, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while True:
                command, length = struct.unpack("<4sI", stream.take(8))
                if command == b"DONE":  # its word is a time, not a length
                    break
                file.write(stream.take(length))
        self._write(stream, b"OKAY" + struct.pack("<I", 0))


def _status(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return struct.pack("<III", 0, 0, 0)
    return struct.pack("<III", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))


def _exactly(line: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = line.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


@contextmanager
def running(environment: dict[str, str]) -> Iterator[FakeDevice]:
    """The device, with a server of adb's own for this process (ANDROID_ADB_SERVER_PORT is set meanwhile)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    before = os.environ.get("ANDROID_ADB_SERVER_PORT")
    os.environ["ANDROID_ADB_SERVER_PORT"] = port
    device = FakeDevice(environment)
    try:
        yield device
    finally:
        subprocess.run([str(shutil.which("adb")), "kill-server"], capture_output=True, check=False)
        device.listener.close()
        device.unplug()
        if before is None:
            del os.environ["ANDROID_ADB_SERVER_PORT"]
        else:
            os.environ["ANDROID_ADB_SERVER_PORT"] = before
