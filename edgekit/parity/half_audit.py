"""Which operators of a program are in danger in half precision, and whether it breaks.

Two runs on one input: in single precision, with every operator judged by `half_hazards`; and
emulated, computing in single precision while weights, constants and every result are rounded to
half, which is what storage in half with single-precision accumulation does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.parity.half_hazards import Call, Hazard, as_half, hazards, names, stored_hazards
from edgekit.parity.torch_run import Arguments, Array, ObservedRun, Options
from edgekit.program.program import Program
from edgekit.program.source import module_path, op_name, source_line
from edgekit.report import aligned, json_number

SHOWN = 20
# Operators whose float arguments are data; elsewhere they are sizes, scales and probabilities.
_CONSTANTS_ARE_DATA = names(
    "add sub rsub mul div clamp clamp_min clamp_max masked_fill layer_norm native_layer_norm "
    "group_norm native_group_norm instance_norm rms_norm batch_norm leaky_relu hardtanh elu "
    "_native_batch_norm_legit_no_training where"
)


@dataclass(frozen=True)
class Place:
    op: str
    node: str
    source: str
    module: str

    @classmethod
    def of(cls, node: Node) -> Place:
        op = op_name(node) if node.op == "call_function" else str(node.target)
        return cls(op, node.name, source_line(node), module_path(node))


@dataclass(frozen=True)
class Finding:
    place: Place
    hazard: Hazard

    def to_json(self) -> dict[str, object]:
        number = json_number(self.hazard.number)
        return {**asdict(self.place), **asdict(self.hazard), "number": number}

    @property
    def origin(self) -> tuple[str, ...]:
        """What a row of the table gathers: one kind of hazard on one line of code."""
        place, hazard = self.place, self.hazard
        return hazard.severity, hazard.kind, place.source or place.node


@dataclass(frozen=True)
class HalfAudit:
    findings: tuple[Finding, ...]
    first_nonfinite: Place | None
    """Where the emulated run first has NaN or Inf that the single-precision run has not."""

    @property
    def breaks(self) -> bool:
        return self.first_nonfinite is not None or any(
            finding.hazard.severity == "breaks" for finding in self.findings
        )

    def to_json(self) -> dict[str, object]:
        first = self.first_nonfinite
        return {
            "breaks": self.breaks,
            "findings": [finding.to_json() for finding in self.findings],
            "first_nonfinite": asdict(first) if first else None,
        }

    def table(self) -> str:
        lines = ["No hazard found in half precision on this input."]
        if self.findings:
            rows = _rows(self.findings)
            heading = ("", "node", "kind", "what happens", "source", "module")
            lines = [aligned([heading, *rows[:SHOWN]])]
            if len(rows) > SHOWN:
                lines.append(f"and {len(rows) - SHOWN} more lines")
        if first := self.first_nonfinite:
            where = f" at {first.source}" if first.source else ""
            lines.append(
                f"Emulated in half, {first.node} ({first.op}{where}) first gives NaN or Inf."
            )
        return "\n".join(lines)


def _rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    gathered: dict[tuple[str, ...], list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: finding.hazard.severity):
        gathered.setdefault(finding.origin, []).append(finding)
    rows: list[tuple[str, ...]] = []
    for alike in gathered.values():
        place, hazard = alike[0].place, alike[0].hazard
        node = f"{place.node} ({len(alike)} alike)" if len(alike) > 1 else place.node
        rows.append((hazard.severity, node, hazard.kind, hazard.why, place.source, place.module))
    return rows


def audit_half(program: Program, inputs: Mapping[str, Array]) -> HalfAudit:
    """Findings hold for `inputs`: give the extremes that the model will meet."""
    findings: list[Finding] = []
    nonfinite: set[str] = set()

    def judge(node: Node, args: Arguments, kwargs: Options, value: object) -> object:
        result = _tensor(value)
        if result is None:
            return value
        if not _is_finite(result):
            nonfinite.add(node.name)
        found = stored_hazards(result)
        if node.op == "call_function":
            found = hazards(Call(node, args, dict(kwargs), result))
        findings.extend(Finding(Place.of(node), hazard) for hazard in found)
        return value

    ObservedRun(program, judge).run_by_name(inputs)
    return HalfAudit(tuple(findings), _first_nonfinite(program, inputs, nonfinite))


def _first_nonfinite(
    program: Program, inputs: Mapping[str, Array], expected: set[str]
) -> Place | None:
    first: list[Place] = []

    def round_constants(node: Node, args: Arguments, kwargs: Options) -> tuple[Arguments, Options]:
        if node.op != "call_function" or op_name(node).removesuffix("_") not in _CONSTANTS_ARE_DATA:
            return args, kwargs
        return _each(args, _round_constant), _each(kwargs, _round_constant)

    def round_result(node: Node, _args: object, _kwargs: object, value: object) -> object:
        rounded = _each(value, _round_tensor)
        result = _tensor(rounded)
        if (
            not first
            and result is not None
            and node.name not in expected
            and not _is_finite(result)
        ):
            first.append(Place.of(node))
        return rounded

    ObservedRun(program, round_result, round_constants).run_by_name(inputs)
    return first[0] if first else None


def _tensor(value: object) -> Tensor | None:
    """The result itself; of several results the first, since norms add statistics after it."""
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return first if isinstance(first, Tensor) else None


def _each(value: Any, change: Callable[[object], object]) -> Any:
    """`change` of every leaf of nested tuples, lists and dictionaries."""
    if isinstance(value, tuple | list):
        return type(value)(_each(member, change) for member in value)
    if isinstance(value, dict):
        return {key: _each(member, change) for key, member in value.items()}
    return change(value)


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _round_constant(value: object) -> object:
    return as_half(value) if isinstance(value, float) else value


def _round_tensor(value: object) -> object:
    if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float64):
        return value
    return value.half().to(value.dtype)
