"""What a parity check found: numbers per output, a verdict, a reason for every failure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

IDENTICAL_DB = 999.0
"""How JSON writes the PSNR of identical outputs: it has no infinity, and scripts compare."""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, two spaces apart; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def json_number(value: float) -> float | None:
    """The number, or None where it is infinite or NaN, which strict JSON cannot hold."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class DetectionGate:
    """What the boxes of a detector must reach, and which decibels its tensors of all candidates."""

    matched: float = 0.95
    """Least share of the model's boxes that the file has, and of the file's that the model has."""
    mean_iou: float = 0.95
    """Least mean overlap of matched boxes whose corners are further apart than the following."""
    corner_px: float = 0.5
    """Corners so near are the same, however small the boxes: of a box of 2 pixels, rounding costs overlap."""
    score_difference: float = 0.02
    """Most that the score of a matched box may differ by."""
    psnr_db: float | None = None
    """Of boxes and scores of all candidates; None: as of any output."""


@dataclass(frozen=True)
class Gate:
    """What an output must reach: decibels if it holds real numbers, equality if integers."""

    psnr_db: float
    integers_differ: float = 0.0
    """Share of an output's integers (a class map, indices) that may be others, 0 to 1."""
    detections: DetectionGate | None = None
    """Only for detectors."""

    def to_json(self) -> dict[str, object]:
        detections = asdict(self.detections) if self.detections else None
        return {
            "psnr_db": self.psnr_db,
            "integers_differ": self.integers_differ,
            **({"detections": detections} if detections else {}),
        }

    def sentence(self) -> str:
        asked = self.detections
        if asked is None:
            return f"{self.psnr_db:g} dB"
        return (
            f"{self.psnr_db:g} dB, {asked.matched:.0%} of the boxes at a mean IoU of {asked.mean_iou:g} with "
            f"scores within {asked.score_difference:g}"
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Gate:
        """Raises KeyError, TypeError or ValueError."""
        detections = data.get("detections")
        gate = DetectionGate(**detections) if detections is not None else None
        return cls(float(data["psnr_db"]), float(data["integers_differ"]), gate)


@dataclass(frozen=True)
class OutputParity:
    """One output of the file against the model's. NaN stands for a number that has no meaning."""

    name: str
    psnr_db: float
    """Against the declared range, or the largest magnitude expected; infinite if identical."""
    max_abs: float
    mean_abs: float
    cosine: float
    passed: bool
    reason: str = ""
    """Why it failed: one sentence; empty if it passed."""

    def to_json(self) -> dict[str, object]:
        psnr_db = IDENTICAL_DB if self.psnr_db == math.inf else json_number(self.psnr_db)
        return {
            "name": self.name,
            "psnr_db": psnr_db,
            "max_abs": json_number(self.max_abs),
            "mean_abs": json_number(self.mean_abs),
            "cosine": json_number(self.cosine),
            "passed": self.passed,
            "reason": self.reason,
        }

    def row(self) -> tuple[str, ...]:
        psnr = "identical" if self.psnr_db == math.inf else _cell(self.psnr_db, ".1f")
        return (
            self.name,
            psnr,
            _cell(self.max_abs, ".3g"),
            _cell(self.mean_abs, ".3g"),
            _cell(self.cosine, ".6f"),
            "pass" if self.passed else "FAIL",
        )


@dataclass(frozen=True)
class PlannedMemory:
    """Peak of a memory plan: live activations as predicted, and as measured where they can be."""

    predicted_bytes: int
    whole_predicted_bytes: int
    """Of the same network without a plan."""
    live_bytes: int | None
    """Measured: what the runtime had asked for at once, and the arrays beside it."""
    process_bytes: int | None
    """Measured: what a fresh process took for the third run, which allocators make larger."""
    passed: bool
    method: str
    """How the live bytes were measured, or why they were not."""

    def sentence(self) -> str:
        saved = self.whole_predicted_bytes / max(1, self.predicted_bytes)
        predicted = (
            f"plan: peak beside the input predicted {self.predicted_bytes / 2**20:.1f} MiB, "
            f"{saved:.1f} times less than the whole network"
        )
        if self.live_bytes is None:
            return f"{predicted}; not measured: {self.method}"
        verdict = "pass" if self.passed else "FAIL"
        measured = f"measured {self.live_bytes / 2**20:.1f} MiB {verdict} ({self.method})"
        if self.process_bytes is not None:
            measured += f"; a fresh process took {self.process_bytes / 2**20:.1f} MiB"
        return f"{predicted}; {measured}"


@dataclass(frozen=True)
class DetectionParity:
    """Boxes of the file against the model's: of one class and overlapping by half, they are matched."""

    score: float
    """Boxes above this score were compared."""
    iou: float
    """Of the suppression before."""
    expected: int
    """Boxes of the model."""
    found: int
    """Boxes of the file."""
    matched: int
    near_ties: int
    """Boxes of the model whose place another took, or that are just not shown, by a near tie of scores."""
    missing: int
    """Boxes of the model that the file lacks."""
    extra: int
    """The other way round."""
    mean_iou: float
    least_iou: float
    mean_iou_apart: float
    """Of those whose corners are further apart than the gate lets pass in any case; NaN for none."""
    max_corner_px: float
    """Most that a corner of a matched box is off, in pixels of the input."""
    max_score_difference: float
    gate: DetectionGate

    @property
    def reason(self) -> str:
        """Why it failed: one sentence; empty if it passed."""
        gate = self.gate
        for count, total, side, other in (
            (self.missing, self.expected, "model", "file"),
            (self.extra, self.found, "file", "model"),
        ):
            if count > (1 - gate.matched) * total:
                return f"{count} of {total} boxes of the {side} have no match in the {other}."
        if self.mean_iou_apart < gate.mean_iou:
            return (
                f"the mean IoU {self.mean_iou_apart:.4f} of boxes whose corners are more than "
                f"{gate.corner_px:g} px apart is below {gate.mean_iou:g}."
            )
        if self.max_score_difference > gate.score_difference:
            return (
                f"scores of matched boxes differ by up to {self.max_score_difference:.4f}, more than "
                f"{gate.score_difference:g}."
            )
        return ""

    @property
    def passed(self) -> bool:
        return not self.reason

    def to_json(self) -> dict[str, object]:
        numbers = {
            field: json_number(value) if isinstance(value, float) else value
            for field, value in asdict(self).items()
            if field != "gate"
        }
        return {**numbers, "passed": self.passed, "reason": self.reason}

    def sentence(self) -> str:
        if not self.expected and not self.found:
            return f"detections above {self.score:.3g}: none on either side, so that they prove nothing here"
        told = (
            f"detections above {self.score:.3g}: {self.matched} of {self.expected} matched, "
            f"{self.near_ties} near ties, {self.missing} missing, {self.extra} extra"
        )
        if self.matched:
            told += (
                f"; IoU mean {self.mean_iou:.4f}, least {self.least_iou:.4f}; corners up to "
                f"{self.max_corner_px:.2g} px apart; scores differ by up to "
                f"{self.max_score_difference:.2g}"
            )
        if self.matched < self.expected / 2:
            told += (
                "; most are near ties, as of weights that are not trained, so that the tensors' figures prove "
                "more"
            )
        return f"{told}  {'pass' if self.passed else 'FAIL'}"


@dataclass(frozen=True)
class Report:
    """The verdict on one file, and what computed it: a reference runtime, never a device."""

    passed: bool
    outputs: tuple[OutputParity, ...]
    reference: str
    gate: Gate
    notes: tuple[str, ...] = ()
    memory: PlannedMemory | None = None
    """Only for bundles with a memory plan."""
    detections: DetectionParity | None = None
    """Only for detectors."""

    @property
    def reasons(self) -> list[str]:
        """A sentence for everything that failed."""
        found = [output.reason for output in self.outputs if output.reason]
        if self.detections and self.detections.reason:
            found.append(self.detections.reason)
        return found

    def to_json(self) -> dict[str, object]:
        """Strict JSON: identical outputs have 999.0 dB, numbers without a meaning are null."""
        return {
            "passed": self.passed,
            "outputs": [output.to_json() for output in self.outputs],
            "reference": self.reference,
            "gate": self.gate.to_json(),
            "notes": list(self.notes),
            "memory": asdict(self.memory) if self.memory else None,
            "detections": self.detections.to_json() if self.detections else None,
        }

    def table(self) -> str:
        heading = ("output", "PSNR dB", "max abs", "mean abs", "cosine", "")
        lines = [aligned([heading, *(output.row() for output in self.outputs)])]
        lines += [f"{output.name}: {output.reason}" for output in self.outputs if output.reason]
        if self.detections:
            lines.append(self.detections.sentence())
            if self.detections.reason:
                lines.append(f"detections: {self.detections.reason}")
        lines += self.notes
        if self.memory:
            lines.append(self.memory.sentence())
        lines.append(f"gate: {self.gate.sentence()}; computed by {self.reference}")
        return "\n".join(lines)


def _cell(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"
