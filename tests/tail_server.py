"""The server of a tail beside the test's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from edgekit.split.client import Address
from edgekit.split.server import ServeOptions, Server, Tail


@contextmanager
def tail_served(
    tail: Tail, options: ServeOptions | None = None
) -> Iterator[tuple[Server, Address]]:
    server, loop = Server(tail, options or ServeOptions()), asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(loop.run_forever)
        port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result()
        try:
            yield server, Address("127.0.0.1", port)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
    loop.close()
