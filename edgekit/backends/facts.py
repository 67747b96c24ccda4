"""What is inside a model file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.report import aligned


@dataclass(frozen=True)
class FileFacts:
    kind: str
    """Format and version, such as "ONNX opset 18, IR 10"."""
    inputs: tuple[str, ...]
    """Name, type and shape in words."""
    outputs: tuple[str, ...]
    operators: Mapping[str, int]
    """Constants not counted."""
    max_rank: int
    """Largest rank of a computed value; 0 where the file does not say."""
    weight_bytes: Mapping[str, int]
    """By stored element type."""

    def to_json(self) -> dict[str, object]:
        return {
            **vars(self),
            "operators": dict(self.operators),
            "weight_bytes": dict(self.weight_bytes),
            "nodes": sum(self.operators.values()),
        }

    def table(self) -> str:
        by_count = sorted(self.operators.items(), key=lambda item: (-item[1], item[0]))
        weights = [
            f"{size / 1e6:.2f} MB {name}" for name, size in sorted(self.weight_bytes.items())
        ]
        rows = [
            ("file", self.kind),
            *(("input", text) for text in self.inputs),
            *(("output", text) for text in self.outputs),
            ("weights", ", ".join(weights) or "none"),
            ("rank", f"at most {self.max_rank}"),
            (
                "operators",
                f"{sum(self.operators.values())}: " + ", ".join(f"{n} {o}" for o, n in by_count),
            ),
        ]
        return aligned(rows)
