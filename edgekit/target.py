"""Targets: one TOML file in `export/` per kind of file edgekit writes, read into frozen data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.data_folder import data_files, require_types, suggestion
from edgekit.errors import UsageError
from edgekit.report import DetectionGate, Gate

PRECISIONS = ("fp32", "fp16")
QUANTISED = "quantised"
"""The gate of models that hold codes, against their own eager form."""
QUANTISED_DB = 30.0
"""Where a target's file says nothing."""
NEEDED = {"onnx": ("opset", "ir_version"), "coreml": ("minimum_os",)}
"""Fields that a format cannot do without."""


@dataclass(frozen=True)
class Lints:
    """What a graph may not hold, checked before a conversion starts."""

    max_rank: int
    refused: Mapping[str, str]
    """ATen operator to the reason it cannot be written."""
    warned: Mapping[str, str]
    """ATen operator to the reason it will be slow or leave the accelerator."""


@dataclass(frozen=True)
class Target:
    name: str
    format: str
    """The backend: coreml, onnx or coreai."""
    summary: str
    precisions: tuple[str, ...]
    """The first is the default."""
    gates: Mapping[str, float]
    """Precision to the least PSNR in dB against eager float32; `quantised` has one too."""
    lints: Lints
    half_integers_differ: float = 0.0
    """Share of integers that half precision may change: where two classes are close, one wins."""
    suppresses: bool = False
    """Whether its files may suppress overlapping boxes themselves."""
    detections: Mapping[str, DetectionGate] = field(default_factory=dict)
    """Of detectors, by precision."""
    rules: tuple[str, ...] = ()
    """Rewrite rules for this runtime, beside those that always run."""
    opset: int = 0
    """ONNX."""
    ir_version: int = 0
    minimum_os: str = ""
    """Core ML, such as iOS17."""

    def gate(self, precision: str, *, quantised: bool = False) -> Gate:
        """A quantised model's file may round a number to the neighbouring code, which others follow."""
        rounds = quantised or precision == "fp16"
        decibels = self.gates.get(QUANTISED, QUANTISED_DB) if quantised else self.gates[precision]
        return Gate(float(decibels), self.half_integers_differ if rounds else 0.0)

    def detection_gate(self, precision: str, *, quantised: bool = False) -> DetectionGate:
        return self.detections.get("fp16" if quantised else precision, DetectionGate())

    def require_precision(self, precision: str | None) -> str:
        """The default for None. Raises UsageError for one the target does not write."""
        if precision is None:
            return self.precisions[0]
        if precision not in self.precisions:
            raise UsageError(
                f"Target '{self.name}' does not write {precision}; it writes {', '.join(self.precisions)}."
            )
        return precision


def all_targets() -> list[Target]:
    return [read_target(path) for path in data_files("export")]


def find_target(name: str) -> Target:
    """By name or path of a TOML file. Raises UsageError, with the nearest name."""
    if name.endswith(".toml"):
        return read_target(Path(name))
    targets = {target.name: target for target in all_targets()}
    if name not in targets:
        raise UsageError(f"There is no target '{name}'; {suggestion(name, sorted(targets))}")
    return targets[name]


def read_target(path: Path) -> Target:
    """Read one file. Raises UsageError that names the file and the field."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        lints = data.pop("lints")
        precisions = tuple(data.pop("precisions"))
        rules = tuple(data.pop("rules", ()))
        detections = {
            precision: DetectionGate(**fields)
            for precision, fields in data.pop("detections", {}).items()
        }
        target = Target(
            **data,
            precisions=precisions,
            rules=rules,
            detections=detections,
            lints=Lints(lints["max_rank"], lints.get("refused", {}), lints.get("warned", {})),
        )
        _require_sense(target)
        return target
    except OSError as error:
        raise UsageError(f"The target {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}.") from error
    except KeyError as error:
        raise UsageError(f"{path} has no {error.args[0]!r}; see export/coreml.toml.") from error
    except (TypeError, ValueError) as error:
        reason = str(error).split("__init__() ")[-1]
        raise UsageError(f"{path} does not describe a target: {reason}.") from error


def _require_sense(target: Target) -> None:
    """Raises TypeError, ValueError or KeyError, as reading does."""
    require_types(target)
    require_types(target.lints)
    if not target.precisions or not set(target.precisions) <= set(PRECISIONS):
        raise ValueError(f"'precisions' is a choice of {', '.join(PRECISIONS)}")
    for precision in {*target.precisions, *target.gates}:
        if not isinstance(target.gates[precision], int | float):
            raise TypeError(f"the gate of {precision} must be a number of dB")
    for precision, gate in target.detections.items():
        require_types(gate)
        if precision not in PRECISIONS:
            raise ValueError(
                f"'detections' has {precision!r}, which is none of {', '.join(PRECISIONS)}"
            )
        if gate.corner_px < 0:
            raise ValueError(f"'corner_px' of [detections.{precision}] must not be below 0")
        for name in ("matched", "mean_iou"):
            if not 0 <= getattr(gate, name) <= 1:
                raise ValueError(f"'{name}' of [detections.{precision}] must be from 0 to 1")
    for needed in NEEDED.get(target.format, ()):
        if not getattr(target, needed):
            raise KeyError(needed)
