"""The HTTP server behind the page, for this machine: browsers open such pages fully from it alone (secure contexts)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from edgekit.errors import EdgekitError, MissingEnvironmentError
from edgekit.serving.relay import Relay
from edgekit.serving.site import Served

PACKET = "packet"
HERE = "127.0.0.1"
LOOPBACK = (HERE, "localhost", "::1")
SECONDS = 30.0
"""For a browser to send what it announced."""
KEPT, ASKED_AGAIN, NEVER = "max-age=31536000, immutable", "no-cache", "no-store"
ISOLATED = {
    # Together they let the page have threads and measure its memory.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Host:
    site: Mapping[str, Served]
    relay: Relay | None = None
    """Of a split bundle, if there is a server to pass packets on to."""

    def listen(self, port: int) -> ThreadingHTTPServer:
        """The system chooses for port 0. Raises MissingEnvironmentError."""
        host = self

        class Requests(_Requests):
            pass

        Requests.host = host
        try:
            return _Server((HERE, port), Requests)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise MissingEnvironmentError(
                f"Nothing can listen on {HERE}:{port}: {why}; choose another --port."
            ) from error


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error of anybody's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Requests(BaseHTTPRequestHandler):
    """One connection of a browser."""

    host: ClassVar[Host]
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        self._get(with_body=True)

    def do_HEAD(self) -> None:
        self._get(with_body=False)

    def do_POST(self) -> None:
        relay = self.host.relay
        if not self._is_ours() or urlsplit(self.path).path != f"/{PACKET}":
            return self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if relay is None:
            return self._say(
                HTTPStatus.NOT_FOUND,
                "This host passes no packets on: start it with --split HOST:PORT.",
            )
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or not 0 < int(length) <= relay.most_bytes:
            return self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"A packet of this head has 1 to {relay.most_bytes} bytes.",
            )
        try:
            body = relay.answer(self.rfile.read(int(length)))
        except EdgekitError as error:
            return self._say(HTTPStatus.BAD_GATEWAY, str(error))
        return self._send(HTTPStatus.OK, Served.type, body, NEVER)

    def _get(self, *, with_body: bool) -> None:
        address = urlsplit(self.path)
        served = self.host.site.get(address.path.removeprefix("/"))
        if served is None or not self._is_ours():
            return self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
        named = parse_qs(address.query).get("sha256", [])
        kept = served.is_fixed or (served.sha256 is not None and named == [served.sha256])
        caching = KEPT if kept else ASKED_AGAIN
        content = served.content
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
            self._head(HTTPStatus.OK, served.type, size, caching)
            if with_body:
                shutil.copyfileobj(file, self.wfile)
        return None

    def _is_ours(self) -> bool:
        """That no page of elsewhere asks, be it by a name that it has pointed at this machine."""
        asked = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        name = asked.rpartition(":")[0] if not asked.endswith("]") and ":" in asked else asked
        is_here = name.strip("[]") in LOOPBACK
        return is_here and (origin is None or urlsplit(origin).netloc == asked)

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        """And end the connection: what was announced may not have been read."""
        self._send(
            status, "text/plain; charset=utf-8", sentence.encode(), NEVER, Connection="close"
        )

    def _send(self, status: HTTPStatus, type: str, body: bytes, caching: str, **more: str) -> None:
        self._head(status, type, len(body), caching, **more)
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, type: str, size: int, caching: str, **more: str) -> None:
        self.send_response(status)
        fields = {"Content-Type": type, "Content-Length": str(size), "Cache-Control": caching}
        for name, value in {**fields, **ISOLATED, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A page asks for a dozen files: nobody reads the list of them."""
