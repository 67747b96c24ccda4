"""Proof of a split bundle on its golden input: the head, the tails, both together, and a packet's bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgekit.backends.runnable import Array
from edgekit.contract import TensorSpec
from edgekit.errors import PacketError, UsageError
from edgekit.parity.compare import compare
from edgekit.report import Gate, OutputParity, Report
from edgekit.split.bundle import GOLDEN_PACKET, SplitBundle
from edgekit.split.codec import CalibratedCodec, Codec, EntropyCodec
from edgekit.split.packet import write_packet

EXIT = "exit"
"""Golden part: what the model's own early exit makes, where there is one."""
LATENT = "latent"
"""Golden part: what the model's own head makes before it rounds, C H W."""
TAIL_PART = "tail."
"""Prefix of golden parts: what the model's own tails make of what the golden packet brings."""
HALF = 0.5


def split_report(split: SplitBundle) -> Report:
    """Raises UsageError for a bundle without its golden files, or whose files do not run."""
    inputs, expected = split.bundle.golden()
    parts = split.bundle.golden_parts()
    latent = _latent(split, parts)
    golden = _golden_packet(split)
    seen = split.head_outputs(inputs)
    bottleneck = split.bottleneck_of(seen)
    packet = write_packet(split.codec, bottleneck)
    gate = split.bundle.gate
    facts = split.facts
    tails = split.outputs(split.arrived(golden).values)
    both = split.outputs(split.arrived(packet).values)
    outputs = [_head_parity(split, latent, bottleneck), _packet_parity(split, golden, packet)]
    if facts.exit is not None and EXIT in parts:
        name = str(facts.exit["output"])
        outputs.append(_judged("head", name, parts[EXIT], seen[name], gate))
    for spec in split.bundle.outputs:
        wanted = parts.get(TAIL_PART + spec.name)
        if wanted is None or spec.name not in expected:
            raise UsageError(f"{split.bundle.path} has no golden '{spec.name}'; export again.")
        own, whole = Gate(facts.tail_gate_db), Gate(facts.both_gate_db)
        outputs.append(_judged("tail", spec, wanted, tails[spec.name], own))
        outputs.append(_judged("both", spec, expected[spec.name], both[spec.name], whole))
    tail = next(iter(split.tails.values()))
    reference = f"{split.head.reference} (head), {tail.reference} (tail)"
    passed = all(output.passed for output in outputs)
    return Report(passed, tuple(outputs), reference, gate, (_note(split, latent, bottleneck),))


def head_parity(split: SplitBundle, outputs: Mapping[str, Array]) -> OutputParity:
    """Of what the head's file gave of the golden input, by its output's name alone, as devices call it.

    Raises UsageError for a bundle without its golden latent.
    """
    latent = _latent(split, split.bundle.golden_parts())
    found = _head_parity(split, latent, split.bottleneck_of(outputs))
    return replace(found, name=split.facts.head_output)


def _latent(split: SplitBundle, parts: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    if LATENT not in parts:
        raise UsageError(f"{split.bundle.path} has no golden latent; export the model again.")
    return parts[LATENT].astype(np.float32)


def _head_parity(
    split: SplitBundle, latent: npt.NDArray[np.float32], bottleneck: Array
) -> OutputParity:
    expected = before_rounding(split.codec, latent)
    found = near(split.codec, latent, bottleneck)
    return _judged("head", split.facts.head_output, expected, found, split.bundle.gate)


def before_rounding(codec: Codec, latent: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The latent C H W on the scale of the codec's whole numbers; as it is for one without."""
    if isinstance(codec, EntropyCodec):
        return latent - np.asarray(codec.tables.medians, np.float32)[:, None, None]
    if isinstance(codec, CalibratedCodec):
        scales = np.asarray(codec.calibration.scales, np.float32)[:, None, None]
        points = np.asarray(codec.calibration.zero_points, np.float32)[:, None, None]
        return np.clip(points + latent / scales, 0, 255)
    return latent


def near(codec: Codec, latent: npt.NDArray[np.float32], bottleneck: Array) -> Array:
    """The value next to the latent that rounds to what the file gave.

    A latent that is off by e gives a value that is off by e at most, so that rounded numbers can be held
    to the gate of numbers that were not: a symbol that fell to the other side of a half is no error of 1.
    """
    if not isinstance(codec, EntropyCodec | CalibratedCodec):
        return bottleneck
    whole = bottleneck.astype(np.float32)
    return np.clip(before_rounding(codec, latent), whole - HALF, whole + HALF)


def _judged(
    part: str, output: str | TensorSpec, expected: Array, actual: Array, gate: Gate
) -> OutputParity:
    spec = output if isinstance(output, TensorSpec) else TensorSpec(output, expected.shape)
    report = compare({spec.name: expected}, {spec.name: actual}, (spec,), gate, "")
    return replace(report.outputs[0], name=f"{part}: {spec.name}")


def _golden_packet(split: SplitBundle) -> bytes:
    try:
        return (split.bundle.path / GOLDEN_PACKET).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{split.bundle.path} has no {GOLDEN_PACKET} that can be read; export the model again."
        ) from error


def _packet_parity(split: SplitBundle, golden: bytes, packet: bytes) -> OutputParity:
    """Identical or failed; the errors are those of what the packets bring."""
    if golden == packet:
        return OutputParity("golden packet", math.inf, 0.0, 0.0, 1.0, True)
    try:
        wanted, got = (split.arrived(data).values for data in (golden, packet))
    except PacketError as error:
        nan = math.nan
        return OutputParity("golden packet", nan, nan, nan, nan, False, str(error))
    report = compare(
        {"x": wanted}, {"x": got}, (TensorSpec("x", wanted.shape),), Gate(math.inf), ""
    )
    differ = int(np.count_nonzero(wanted != got))
    reason = (
        f"{differ} of {wanted.size} values differ from those of the packet that was exported: the file is "
        "another, or this machine or its runtime rounds otherwise than the one that exported it."
    )
    return replace(report.outputs[0], name="golden packet", passed=False, reason=reason)


def _note(split: SplitBundle, latent: npt.NDArray[np.float32], bottleneck: Array) -> str:
    facts, size = split.facts, len((split.bundle.path / GOLDEN_PACKET).read_bytes())
    told = (
        f"golden packet: {size} bytes for {facts.channels}x{facts.height}x{facts.width} values, coding "
        f"{facts.coding}"
    )
    if facts.coding != "dynamic":
        own = np.rint(before_rounding(split.codec, latent))
        share = float(np.mean(own != bottleneck))
        told += f"; {share:.3%} of the file's symbols are rounded to another side than the model's"
    return f"{told}; gates of tails {facts.tail_gate_db:g} dB, of both {facts.both_gate_db:g} dB"
