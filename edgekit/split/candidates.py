"""Ways to get an answer on a device with a link to a server, and which is best at what bandwidth.

T = before + head + code + RTT + 8 bytes / goodput + queue + decode + tail, and of a way with an early
exit of rate r: T = to the exit + (1 - r) rest (facts: Neurosurgeon, SPINN).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["local", "image", "split"]
BITS = 8
MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Link:
    bits_per_second: float
    """Upwards, of what is useful: goodput."""
    rtt_ms: float

    def upload_ms(self, size: float) -> float:
        return MILLISECONDS * BITS * size / self.bits_per_second


@dataclass(frozen=True)
class Power:
    """Of the device, in watts."""

    compute: float
    send: float
    idle: float


@dataclass(frozen=True)
class Candidate:
    """One way, with milliseconds of each part for one image, on the machine where the part runs."""

    name: str
    kind: Kind
    before_ms: float = 0.0
    """From picture to the input of the network, or of the picture's coder."""
    head_ms: float = 0.0
    """Of a local way: the whole network."""
    code_ms: float = 0.0
    bytes_mean: float = 0.0
    """Of an image that is sent; 0: nothing is."""
    bytes_p95: float = 0.0
    decode_ms: float = 0.0
    tail_ms: float = 0.0
    queue_ms: float = 0.0
    accuracy: float | None = None
    """Share of pictures that are right; None: not known."""
    exit_rate: float = 0.0
    """Share of images that are answered on the device, before anything is coded or sent."""
    exit_ms: float = 0.0
    """Of what they need: the head up to the exit, and the exit; part of `head_ms` for the others."""

    @property
    def sends(self) -> bool:
        return self.bytes_mean > 0

    def _total_ms(self, link: Link, size: float) -> float:
        upload = link.rtt_ms + link.upload_ms(size) if self.sends else 0.0
        rest = self.head_ms + self.code_ms + upload + self.queue_ms + self.decode_ms + self.tail_ms
        return self.before_ms + self.exit_ms + (1 - self.exit_rate) * (rest - self.exit_ms)

    def total_ms(self, link: Link) -> float:
        """Of the mean image."""
        return self._total_ms(link, self.bytes_mean)

    def slow_ms(self, link: Link) -> float:
        """Of an image of the 95th percentile of bytes that is not answered by an exit."""
        whole = Candidate(**{**asdict(self), "exit_rate": 0.0})
        return whole._total_ms(link, self.bytes_p95)

    def upload_ms(self, link: Link) -> float:
        return link.upload_ms(self.bytes_mean) if self.sends else 0.0

    def energy_mj(self, link: Link, power: Power) -> float:
        """Of the device, for the mean image."""
        stays = 1 - self.exit_rate
        own = self.before_ms + self.exit_ms + stays * (self.head_ms - self.exit_ms + self.code_ms)
        upload = stays * self.upload_ms(link)
        wait = self.total_ms(link) - own - upload
        return power.compute * own + power.send * upload + power.idle * wait

    @property
    def fixed_ms(self) -> float:
        """Without RTT and upload."""
        return self._total_ms(Link(math.inf, 0.0), 0.0)

    @property
    def sent_share(self) -> float:
        return 1 - self.exit_rate if self.sends else 0.0


@dataclass(frozen=True)
class Reign:
    """The bandwidths, in bits per second, between which a candidate has the least mean latency."""

    candidate: Candidate
    from_bits: float
    to_bits: float
    """Infinite for the last one."""


def pareto(candidates: Sequence[Candidate], link: Link) -> list[Candidate]:
    """Those that no other one beats in latency, mean bytes and accuracy at once.

    Accuracy that is not known is taken as equal.
    """

    def beats(one: Candidate, other: Candidate) -> bool:
        costs = [
            (one.total_ms(link), other.total_ms(link)),
            (one.sent_share * one.bytes_mean, other.sent_share * other.bytes_mean),
        ]
        if one.accuracy is not None and other.accuracy is not None:
            costs.append((-one.accuracy, -other.accuracy))
        return all(a <= b for a, b in costs) and any(a < b for a, b in costs)

    return [item for item in candidates if not any(beats(other, item) for other in candidates)]


def reigns(candidates: Sequence[Candidate], rtt_ms: float) -> list[Reign]:
    """Who is fastest from the slowest link to the fastest one.

    With x = 1 / bandwidth each latency is a line a + b x, and the fastest are their lower envelope.
    """
    lines = [
        (item.fixed_ms + item.sent_share * rtt_ms, item.sent_share * BITS * item.bytes_mean * MILLISECONDS, item)
        for item in candidates
    ]  # fmt: skip
    found: list[Reign] = []
    x, high = 0.0, math.inf  # from infinite bandwidth down
    current = min(lines, key=lambda line: (line[0], line[1]))
    while True:
        crossing, following = math.inf, None
        for line in lines:
            if line[1] < current[1]:
                at = (line[0] - current[0]) / (current[1] - line[1])
                if (at, line[1]) < (crossing, following[1] if following else math.inf):
                    crossing, following = max(at, x), line
        low = 1 / crossing if crossing else math.inf
        if following is None:
            found.append(Reign(current[2], 0.0, high))
            return found[::-1]
        if low < high:
            found.append(Reign(current[2], low, high))
        x, high, current = crossing, low, following


def good_enough(candidates: Sequence[Candidate], points: float) -> list[Candidate]:
    """Those within so many points of the local network's accuracy, and all whose accuracy is not known."""
    known = [item.accuracy for item in candidates if item.kind == "local" and not item.exit_rate and item.accuracy is not None]  # fmt: skip
    if not known:
        return list(candidates)
    least = max(known) - points / 100
    return [item for item in candidates if item.accuracy is None or item.accuracy >= least]


def verdict(candidates: Sequence[Candidate], link: Link, within_points: float) -> str:
    """Whether splitting pays, in sentences; those that lose more points of accuracy do not count."""
    fit = good_enough(candidates, within_points)
    splits = [item for item in fit if item.kind == "split"]
    others = [item for item in fit if item.kind != "split"]
    at = f"at {bandwidth(link.bits_per_second)} and {link.rtt_ms:g} ms"
    if not splits and any(item.kind == "split" for item in candidates):
        return f"Splitting does not pay {at}: every split loses more than {within_points:g} points of accuracy."
    if not splits or not others:
        return f"Splitting cannot be judged {at}: there is nothing to compare."
    best, other = (min(items, key=lambda item: item.total_ms(link)) for items in (splits, others))
    mine, theirs = best.total_ms(link), other.total_ms(link)
    won = [reign for reign in reigns(fit, link.rtt_ms) if reign.candidate.kind == "split"]
    spans = ", ".join(span(reign.from_bits, reign.to_bits) for reign in _joined(won))
    where = f"It pays {spans}." if won else "It pays at no bandwidth with this round trip."
    if mine < theirs:
        return (
            f"Splitting pays {at}: '{best.name}' takes {mine:.1f} ms, the best other way, '{other.name}', "
            f"{theirs:.1f} ms. {where}"
        )
    return (
        f"Splitting does not pay {at}: '{other.name}' takes {theirs:.1f} ms, the best split, '{best.name}', "
        f"{mine:.1f} ms. {where}"
    )


def _joined(found: Sequence[Reign]) -> list[Reign]:
    joined: list[Reign] = []
    for reign in found:
        if joined and joined[-1].to_bits == reign.from_bits:
            joined[-1] = Reign(reign.candidate, joined[-1].from_bits, reign.to_bits)
        else:
            joined.append(reign)
    return joined


def span(low: float, high: float) -> str:
    if low <= 0 and math.isinf(high):
        return "at every bandwidth"
    if low <= 0:
        return f"below {bandwidth(high)}"
    if math.isinf(high):
        return f"above {bandwidth(low)}"
    return f"from {bandwidth(low)} to {bandwidth(high)}"


def bandwidth(bits: float) -> str:
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits >= size:
            return f"{bits / size:.3g} {unit}"
    return f"{bits:.3g} bit/s"


def to_json(candidate: Candidate, link: Link, power: Power | None) -> dict[str, Any]:
    fields = asdict(candidate)
    fields |= {
        "upload_ms": candidate.upload_ms(link),
        "rtt_ms": link.rtt_ms if candidate.sends else 0.0,
        "total_ms": candidate.total_ms(link),
        "total_p95_bytes_ms": candidate.slow_ms(link),
    }
    if power is not None:
        fields["energy_mj"] = candidate.energy_mj(link, power)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in fields.items()}  # fmt: skip
