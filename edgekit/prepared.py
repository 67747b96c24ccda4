"""A model's graph as a target is to get it: captured, rewritten and linted; nothing is converted or written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgekit.backends.registry import Backend, backend_for
from edgekit.contract import TensorSpec
from edgekit.detection.in_the_file import InTheFile, with_work
from edgekit.errors import ConversionError, UsageError
from edgekit.model import Model
from edgekit.program.capture import Capture, capture, expanded, without_torch_warnings
from edgekit.program.convertible import require_convertible, require_own_outputs
from edgekit.program.lints import Finding, lint
from edgekit.program.program import Program
from edgekit.program.rule import Decision, rewrite
from edgekit.program.rules import rules
from edgekit.target import Target


@dataclass(frozen=True)
class Prepared:
    """A program ready for conversion, with every decision on the way."""

    program: Program
    precision: str
    method: str
    decisions: list[Decision] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]


def prepare(model: Model, target: Target, precision: str | None) -> Prepared:
    """Capture, rewrite and lint; nothing is converted or written."""
    with without_torch_warnings():
        captured = captured_model(model)
        chosen = target.require_precision(precision)
        return made_ready(captured.program, target, chosen, captured.method)


def working(model: Model, target: Target, work: InTheFile) -> Model:
    """The model as the target's file is to be. Raises UsageError."""
    backend = backend_for(target.format)
    if work.suppression is not None and not target.suppresses:
        raise UsageError(
            f"Target '{target.name}' has no operator that suppresses boxes; leave --nms away."
        )
    return with_work(model, work, backend.pixels_axes, best_class_only=backend.best_class_only)


def captured_model(model: Model) -> Capture:
    """The model's graph as it is. Raises ConversionError for what no file can hold."""
    captured = capture(model.module, model.example_inputs, model.inputs, model.outputs)
    require_convertible(captured.program)
    require_own_outputs(captured.program)
    return captured


def made_ready(source: Program, target: Target, precision: str, method: str) -> Prepared:
    """Rewrite and lint a graph for a target."""
    backend = backend_for(target.format)
    lacking = backend.unsupported_operators(source)
    program, decisions = rewrite(
        expanded(source, lacking), rules(half=precision != "fp32", runtime=target.rules)
    )
    require_own_outputs(program)
    doors(backend, program)  # refuses element types before anything is written
    unsupported = backend.unsupported_operators(program)
    findings = lint(program, target.lints, unsupported)
    return Prepared(program, precision, method, decisions, findings)


def doors(
    backend: Backend, program: Program
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs with the element types that the written file has.

    Raises ConversionError for a type that the format does not take.
    """
    for spec in (*program.inputs, *program.outputs):
        if spec.dtype not in backend.takes and not _is_picture(spec, backend):
            raise ConversionError(
                f"'{spec.name}' is {spec.dtype}, and these files take {', '.join(backend.takes)}: call "
                "module.float(), give inputs of such a type, and choose half precision with --precision."
            )

    def at_the_door(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype=backend.door_type(spec.dtype)) for spec in specs)

    return at_the_door(program.inputs), at_the_door(program.outputs)


def _is_picture(spec: TensorSpec, backend: Backend) -> bool:
    """Bytes of three colours, in the order that the format holds them."""
    is_colourful = len(spec.shape) == 4 and spec.shape[backend.pixels_axes.index("C")] == 3
    return spec.dtype == "uint8" and is_colourful


def require_no_errors(prepared: Prepared, target: Target) -> None:
    """Raises ConversionError for a graph that the target's lints refuse."""
    if prepared.errors:
        first = prepared.errors[0]
        where = f" ({first.source})" if first.source else ""
        raise ConversionError(
            f"{len(prepared.errors)} operator(s) cannot go to {target.name}, first {first.message}"
            f"{where}; --dry-run lists all."
        )
