"""Packets of a page to the server of a tail: a browser opens no TCP connection by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from edgekit.split.bundle import SplitBundle
from edgekit.split.client import Address, LinkOptions, ask_once
from edgekit.split.server import BYTES_PER_SYMBOL, LONGEST_HEADER


@dataclass(frozen=True)
class Relay:
    """One connection for each packet: what a page sends is rare, and servers drop idle ones."""

    bundle: SplitBundle
    address: Address
    options: LinkOptions = field(default_factory=LinkOptions)

    @property
    def most_bytes(self) -> int:
        """Of a packet; the server takes no longer ones."""
        return LONGEST_HEADER + BYTES_PER_SYMBOL * self.bundle.facts.sizes.symbols

    def answer(self, packet: bytes) -> bytes:
        """The body of the server's answer, as docs/split-serving.md has it.

        Raises LinkError, PacketError or UsageError with the sentence that the page shows.
        """
        answer = asyncio.run(ask_once(self.address, self.bundle.codec, packet, self.options))
        self.bundle.require_answer(answer.outputs, str(self.address))
        return answer.pack()
