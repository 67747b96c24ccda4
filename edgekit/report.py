"""What a parity check found: numbers per output, a verdict, a reason for every failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
class Gate:
    """What an output must reach: decibels if it holds real numbers, equality if integers."""

    psnr_db: float
    integers_differ: float = 0.0
    """Share of an output's integers (a class map, indices) that may be others, 0 to 1."""

    def to_json(self) -> dict[str, float]:
        return {"psnr_db": self.psnr_db, "integers_differ": self.integers_differ}


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
class Report:
    """The verdict on one file, and what computed it: a reference runtime, never a device."""

    passed: bool
    outputs: tuple[OutputParity, ...]
    reference: str
    gate: Gate
    notes: tuple[str, ...] = ()
    memory: PlannedMemory | None = None
    """Only for bundles with a memory plan."""

    def to_json(self) -> dict[str, object]:
        """Strict JSON: identical outputs have 999.0 dB, numbers without a meaning are null."""
        return {
            "passed": self.passed,
            "outputs": [output.to_json() for output in self.outputs],
            "reference": self.reference,
            "gate": self.gate.to_json(),
            "notes": list(self.notes),
            "memory": asdict(self.memory) if self.memory else None,
        }

    def table(self) -> str:
        heading = ("output", "PSNR dB", "max abs", "mean abs", "cosine", "")
        lines = [aligned([heading, *(output.row() for output in self.outputs)])]
        lines += [f"{output.name}: {output.reason}" for output in self.outputs if output.reason]
        lines += self.notes
        if self.memory:
            lines.append(self.memory.sentence())
        lines.append(f"gate: {self.gate.psnr_db:g} dB; computed by {self.reference}")
        return "\n".join(lines)


def _cell(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"
