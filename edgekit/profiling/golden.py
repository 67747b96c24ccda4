"""What a device made of a bundle's golden input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.report import IDENTICAL_DB, OutputParity


@dataclass(frozen=True)
class GoldenOutput:
    name: str
    psnr_db: float | None
    """None where it is not finite, or of another shape."""
    passed: bool


@dataclass(frozen=True)
class Golden:
    passed: bool
    gate_db: float
    outputs: tuple[GoldenOutput, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Golden:
        rows = (GoldenOutput(row["name"], row["psnr_db"], row["passed"]) for row in data["outputs"])
        return cls(data["passed"], data["gate_db"], tuple(rows))

    @classmethod
    def of(cls, output: OutputParity, gate_db: float) -> Golden:
        known = None if math.isnan(output.psnr_db) else min(output.psnr_db, IDENTICAL_DB)
        return cls(output.passed, gate_db, (GoldenOutput(output.name, known, output.passed),))

    def to_json(self) -> dict[str, Any]:
        outputs = [asdict(row) for row in self.outputs]
        return {"passed": self.passed, "gate_db": self.gate_db, "outputs": outputs}

    def sentence(self) -> str:
        told = ", ".join(f"{row.name} {_decibels(row.psnr_db)}" for row in self.outputs)
        verdict = "pass" if self.passed else "FAIL"
        return f"{told or 'no output compared'}; the gate is {self.gate_db:g} dB: {verdict}"


def _decibels(psnr_db: float | None) -> str:
    if psnr_db is None:
        return "not comparable"
    return "identical" if psnr_db >= IDENTICAL_DB else f"{psnr_db:.1f} dB"
