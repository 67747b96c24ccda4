"""What an export refuses before it begins, and the gate that its file has to pass."""

from __future__ import annotations

from dataclasses import replace

from edgekit.backends.registry import Backend
from edgekit.errors import UsageError
from edgekit.model import Model
from edgekit.report import Gate
from edgekit.target import Target


def require_palettes(backend: Backend, target: Target, bits: int | None) -> None:
    """Raises UsageError for an index that the target's files cannot have; None asks for no palettes."""
    if bits is None or bits in backend.palettes:
        return
    if not backend.palettes:
        raise UsageError(
            f"Files of target '{target.name}' have no palettes; `quantize` makes them small."
        )
    known = ", ".join(map(str, backend.palettes))
    raise UsageError(f"A palette's index cannot have {bits} bits; it has {known}.")


def require_packing(model: Model, backend: Backend, target: Target) -> None:
    """Raises UsageError where there is nothing to pack."""
    if model.codes is None:
        raise UsageError("Weights of few bits are packed, and this model's are floats.")
    if not backend.packs:
        raise UsageError(
            f"Files of target '{target.name}' have no packed weights; leave --packed away."
        )


def require_whole_codes(
    model: Model, target: Target, precision: str | None, *, evidence: bool, palettes: bool
) -> None:
    """Raises UsageError for what a quantised model's graph no longer has, or its files cannot hold."""
    if model.codes is None:
        return
    if evidence:
        raise UsageError(
            "A quantised graph has no modules to tell evidence of; export the float model with --safety."
        )
    if target.format == "onnx" and target.require_precision(precision) != "fp32":
        raise UsageError(
            "What stays in floats of a quantised model is in single precision in ONNX files; leave --precision away."
        )
    if palettes:
        raise UsageError(
            "Weights in codes have no palettes too; give the float model to --palettes."
        )


def gate_of(
    model: Model, target: Target, precision: str, asked_db: float | None, *, palettes: bool
) -> Gate:
    """The target's, or with `asked_db` as its least PSNR."""
    quantised = model.codes is not None or palettes
    gate = target.gate(precision, quantised=quantised)
    if model.boxes is not None:
        boxes = target.detection_gate(precision, quantised=quantised)
        gate = replace(gate, detections=boxes)
    if asked_db is None:
        return gate
    detections = gate.detections and replace(gate.detections, psnr_db=None)
    return replace(gate, psnr_db=asked_db, detections=detections)
