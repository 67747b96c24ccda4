"""What a device made of a bundle's golden input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        told = ", ".join(
            f"{row.name} {'not comparable' if row.psnr_db is None else f'{row.psnr_db:.1f} dB'}"
            for row in self.outputs
        )
        verdict = "pass" if self.passed else "FAIL"
        return f"{told or 'no output compared'}; the gate is {self.gate_db:g} dB: {verdict}"
