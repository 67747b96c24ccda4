"""The server of a tail beside the test's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgekit.split.client import Address
from edgekit.split.server import ServeOptions, Server, Tail


@dataclass
class Served(Server):
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def stop_soon(self) -> None:
        """From any thread, also the one in which the tail computes."""
        asyncio.run_coroutine_threadsafe(self.stop(), self.loop)


@contextmanager
def tail_served(
    tail: Tail, options: ServeOptions | None = None
) -> Iterator[tuple[Served, Address]]:
    server = Served(tail, options or ServeOptions())
    loop = server.loop
    with ThreadPoolExecutor(1) as thread:
        thread.submit(loop.run_forever)
        port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result()
        try:
            yield server, Address("127.0.0.1", port)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
    loop.close()
