"""A bundle of a head and its tails: which files they are, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.backends.registry import backend_for
from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.errors import LinkError, UsageError
from edgekit.split.codec import CalibratedCodec, Codec, DynamicCodec, EntropyCodec, Sizes
from edgekit.split.packet import Arrived, Placement, read_packet, write_packet
from edgekit.split.quantise8 import Calibration
from edgekit.split.server import Tail
from edgekit.split.tables import Tables

FIELD = "split"
"""Of a manifest."""
GOLDEN_PACKET = "golden.packet"
PACKET_SCHEMA = "packet.json"
NUMBERS = {"entropy": "tables.json", "calibrated": "calibration.json", "dynamic": None}
"""By kind of coding, the file of numbers that head and tail share."""
VALUES = "values"
"""The input of every tail."""


@dataclass(frozen=True)
class SplitFacts:
    """What a manifest says of a split."""

    layer: str
    """Behind which the network was cut, or "bottleneck"."""
    coding: str
    """"entropy", "calibrated" or "dynamic"."""
    hash: str
    """SHA-256 of what head and tail must share."""
    channels: int
    height: int
    width: int
    head: str
    """File, and name of its one output."""
    head_output: str
    tails: Mapping[str, str]
    """File by name of the task."""
    least_kept: int | None
    """Fewest channels that the head was trained to be useful with; None: it was trained with all."""
    tail_gate_db: float
    """Least PSNR of the tails' files on what the golden packet brings."""
    both_gate_db: float
    """Least PSNR of head and tails together: a symbol near the middle may be rounded to either side."""
    head_hash: str = ""
    """Of a dynamic coding, which has no numbers of its own: SHA-256 of the head's network."""
    exit: Mapping[str, Any] | None = None
    """Of a head with an early exit: `layer`, `output` and `threshold`."""

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.channels, self.height, self.width)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, bundle: Bundle) -> SplitFacts | None:
        """None for a bundle of another kind. Raises UsageError for a damaged one."""
        data = bundle.manifest.get(FIELD)
        if data is None:
            return None
        try:
            facts = cls(**data)
            plain = (facts.layer, facts.hash, facts.head, facts.head_output, facts.head_hash)
            if not all(isinstance(text, str) for text in (*plain, *facts.tails.values())):
                raise TypeError("names are no strings")
            if facts.exit is not None:
                _ = (str(facts.exit["output"]), float(facts.exit["threshold"]))
            if facts.coding not in NUMBERS or not facts.tails or facts.sizes.symbols < 1:
                raise ValueError("there is nothing to code")
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UsageError(
                f"The manifest of {bundle.path} is damaged ({FIELD}: {error}); export the model again."
            ) from error
        return facts


class SplitBundle:
    """Files are loaded when they are first needed: a server needs no head, a device no tail."""

    def __init__(self, bundle: Bundle, load: Callable[[Path], Runnable] | None = None) -> None:
        """`load` opens files in place of their backends, as with threads of its own.

        Raises UsageError for a bundle that is not split, or whose numbers were changed.
        """
        facts = SplitFacts.of(bundle)
        if facts is None:
            raise UsageError(
                f"{bundle.path} holds a whole network; export it with --split LAYER to send parts of it."
            )
        self.bundle = bundle
        self.facts = facts
        self.load = load
        self.codec = _codec(bundle.path, facts)
        if self.codec.digest.hex() != facts.hash:
            raise UsageError(
                f"{bundle.path} has other numbers than it was exported with; export the model again."
            )

    @cached_property
    def head(self) -> Runnable:
        return self._opened(self.facts.head, self.bundle.format)

    @cached_property
    def tails(self) -> dict[str, Runnable]:
        return {name: self._opened(file, "onnx") for name, file in self.facts.tails.items()}

    def _opened(self, file: str, form: str) -> Runnable:
        return (self.load or backend_for(form).load)(self.bundle.path / file)

    def head_outputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the head's file gives of one image. Raises UsageError."""
        given = {
            spec.name: np.ascontiguousarray(inputs[spec.name], dtype=spec.dtype)
            for spec in self.bundle.inputs
            if spec.name in inputs
        }
        return self.head.run(given)

    def bottleneck_of(self, outputs: Mapping[str, Array]) -> Array:
        """C H W as the codec takes it."""
        symbols: Array = outputs[self.facts.head_output][0]
        # Core ML knows no bytes: codes come as int32 there.
        return symbols.astype(np.uint8) if isinstance(self.codec, CalibratedCodec) else symbols

    def bottleneck(self, inputs: Mapping[str, Array]) -> Array:
        """Of one image, C H W as the codec takes it. Raises UsageError."""
        return self.bottleneck_of(self.head_outputs(inputs))

    def early_answer(self, outputs: Mapping[str, Array]) -> Array | None:
        """The exit's logits 1 K if it is sure enough, so that nothing need be sent."""
        if self.facts.exit is None:
            return None
        logits: Array = outputs[str(self.facts.exit["output"])]
        found = logits.astype(np.float64)
        shares = np.exp(found - found.max())
        sure = float(shares.max() / shares.sum()) >= float(self.facts.exit["threshold"])
        return logits if sure else None

    def packet(
        self,
        inputs: Mapping[str, Array],
        keep: int | None = None,
        placement: Placement | None = None,
    ) -> bytes:
        return write_packet(self.codec, self.bottleneck(inputs), keep, placement)

    def arrived(self, packet: bytes) -> Arrived:
        return read_packet(self.codec, packet)

    def outputs(self, values: npt.NDArray[np.float32]) -> dict[str, Array]:
        """Of all tails, for values C H W; with several, an output is TAIL.NAME. Raises UsageError."""
        made: dict[str, Array] = {}
        for name, tail in self.tails.items():
            found = tail.run({VALUES: values[None]})
            made |= {output_name(name, output, self.facts.tails): value for output, value in found.items()}  # fmt: skip
        return made

    def require_answer(self, outputs: Mapping[str, Array], who: str) -> None:
        """That they have the names and shapes of the tails' outputs. Raises LinkError.

        The names come from another machine and become file names, so that the sentence does not repeat them.
        """
        wanted = {spec.name: spec.shape for spec in self.bundle.outputs}
        if {name: value.shape for name, value in outputs.items()} != wanted:
            listed = ", ".join(
                f"{name} {'x'.join(map(str, shape))}" for name, shape in wanted.items()
            )
            raise LinkError(
                f"{who} answered with something else than this bundle's tail gives ({listed}); is it "
                "another bundle that is served there?"
            )

    def tail(self) -> Tail:
        """For a server; its files are loaded."""
        _ = self.tails
        return Tail(self.codec, self.facts.sizes, self.outputs, self.facts.least_kept or 1)


def output_name(tail: str, output: str, tails: Mapping[str, object]) -> str:
    return output if len(tails) == 1 else f"{tail}.{output}"


class Halves:
    """Head, packet and tail as one Runnable, all of them here."""

    def __init__(self, split: SplitBundle) -> None:
        self.split = split
        head, tail = split.head, next(iter(split.tails.values()))
        self.reference = f"head by {head.reference}, tail by {tail.reference}"
        self.rounds_to_half = head.rounds_to_half

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        packet = self.split.packet(inputs)
        return self.split.outputs(self.split.arrived(packet).values)

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Of the head, then of each tail."""
        yield from self.split.head.trace(inputs)
        values = self.split.arrived(self.split.packet(inputs)).values[None]
        for tail in self.split.tails.values():
            yield from tail.trace({VALUES: values})


def _codec(folder: Path, facts: SplitFacts) -> Codec:
    numbers = NUMBERS[facts.coding]
    if numbers is None:
        return DynamicCodec(facts.channels, facts.head_hash)
    if facts.coding == "entropy":
        return EntropyCodec(Tables.read(folder / numbers))
    return CalibratedCodec(Calibration.read(folder / numbers))
