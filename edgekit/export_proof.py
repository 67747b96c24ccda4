"""That a written file computes what the model does: the golden pair, the file run, and the report of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekit.backends.registry import Backend
from edgekit.backends.runnable import Array, Runnable
from edgekit.box_contract import Boxes, Thresholds
from edgekit.errors import ConversionError, ParityError, UsageError
from edgekit.model import Model
from edgekit.parity.detections import judge
from edgekit.parity.half_audit import audit_half
from edgekit.plan.plan import Plan
from edgekit.plan.runner import planned_runnable
from edgekit.prepared import Prepared
from edgekit.program.eager import run_eagerly
from edgekit.program.program import Program
from edgekit.report import Gate, Report


def loaded(
    folder: Path, backend: Backend, file: str, plan: Plan | None, names: list[tuple[str, ...]]
) -> Runnable:
    try:
        if plan is None:
            return backend.load(folder / file)
        return planned_runnable(folder, plan, backend, names[0], names[1])
    except UsageError as error:  # it is our file, not one that the user chose
        raise ConversionError(
            f"The written file cannot be run here: {error} --no-verify keeps it as it is."
        ) from error


def golden_pair(model: Model, program: Program) -> tuple[dict[str, Array], dict[str, Array]]:
    """The example inputs by name, and what the model itself makes of them, eager in float32.

    Raises UsageError if an output does not have the shape that the model's recipe declares.
    """
    outputs = _results(model)
    for spec, value in zip(program.outputs, outputs, strict=True):
        if tuple(value.shape) != spec.shape:
            raise UsageError(
                f"{model.name} declares '{spec.name}' of shape {spec.shape} and its network gives "
                f"{tuple(value.shape)}; correct its recipe, whose architecture and contract differ."
            )
    named_inputs = zip(program.inputs, model.example_inputs, strict=True)
    named_outputs = zip(program.outputs, outputs, strict=True)
    return (
        {spec.name: value.detach().cpu().numpy() for spec, value in named_inputs},
        {spec.name: value.detach().cpu().numpy() for spec, value in named_outputs},
    )


def _results(model: Model) -> list[Tensor]:
    """Eager outputs."""
    with torch.inference_mode():
        results = run_eagerly(model.module, model.example_inputs)
    return [results] if isinstance(results, Tensor) else list(results)


def proof(
    file: Runnable,
    inputs: dict[str, Array],
    expected: dict[str, Array],
    prepared: Prepared,
    gate: Gate,
    written: str,
    seen: tuple[Boxes | None, Thresholds | None],
) -> Report:
    for name, value in expected.items():
        if bad := int(np.count_nonzero(~np.isfinite(value))):
            raise ParityError(
                f"{bad} of {value.size} values of '{name}' are NaN or infinite in the model itself, "
                "so nothing can be compared with them; look at its weights and example inputs."
            )
    try:
        computed = file.run(inputs)
    except UsageError as error:
        raise ConversionError(
            f"The written file cannot be run here: {error} --no-verify keeps it as it is."
        ) from error
    report = judge(expected, computed, prepared.program.outputs, gate, file.reference, *seen)
    if not report.passed:
        raise ParityError(
            f"{written} does not compute what the model computes: {' '.join(report.reasons)} Export with "
            "--no-verify and run `edgekit verify --bisect` to see where they part."
        )
    if prepared.precision == "fp16" and not file.rounds_to_half:
        _require_finite_in_half(prepared.program, inputs)
    return report


def _require_finite_in_half(program: Program, inputs: dict[str, Array]) -> None:
    """For runtimes that compute half-precision files in single precision, and so hide overflow."""
    first = audit_half(program, inputs).first_nonfinite
    if first is not None:
        where = f" ({first.source})" if first.source else ""
        raise ParityError(
            f"In half precision {first.op} '{first.node}'{where} gives NaN or infinity, which this "
            "machine's runtime hides by computing in single precision; --precision fp32 is safe."
        )
