"""The road from a Model to a verified Bundle, and the dry run that stops before conversion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.backends.registry import Backend, backend_for
from edgekit.backends.runnable import Array, Runnable
from edgekit.box_contract import Boxes, Thresholds
from edgekit.bundle import Bundle, new_folder, require_free, write_golden, write_manifest
from edgekit.contract import TensorSpec
from edgekit.detection.in_the_file import NETWORK_ONLY, InTheFile, with_work
from edgekit.errors import ConversionError, ParityError, UsageError
from edgekit.export_checks import gate_of, require_packing, require_palettes, require_whole_codes
from edgekit.export_manifest import notes_of, versions_of
from edgekit.model import Model
from edgekit.parity.detections import judge, shows_too_little
from edgekit.parity.half_audit import audit_half
from edgekit.plan.choose import Request
from edgekit.plan.plan import FILE as PLAN_FILE
from edgekit.plan.plan import Plan, write_plan
from edgekit.plan.runner import planned_runnable
from edgekit.planned_programs import planned_programs
from edgekit.program.capture import Capture, capture, expanded, without_torch_warnings
from edgekit.program.convertible import require_convertible, require_own_outputs
from edgekit.program.eager import run_eagerly
from edgekit.program.lints import Finding, lint
from edgekit.program.program import Program
from edgekit.program.rule import Decision, rewrite
from edgekit.program.rules import rules
from edgekit.report import Gate, Report
from edgekit.target import Target

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """No progress."""


@dataclass(frozen=True)
class ExportOptions:
    precision: str | None = None
    """None: the target's default."""
    verify: bool = True
    simplify: bool = True
    """Formats without a simplifier ignore it."""
    force: bool = False
    """Replace a bundle that exists."""
    plan: Request | None = None
    """Run the network in stretches and tiles that need less memory."""
    one_file: bool = False
    """A plan's tiles inside one model file, instead of a few files that the host runs in a loop."""
    gate_db: float | None = None
    """Least PSNR against the model; None: the target's for the precision."""
    work: InTheFile = NETWORK_ONLY
    """Of a recipe's model: what its file does beside the network."""
    palette_bits: int | None = None
    """Of an index into shared values, which weights become where the format has such; gated as codes are."""
    packed: bool = False
    """Leave out the bits that a quantised model's weights do not need, in formats without types of few bits."""


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


def default_folder(name: str, target: Target, precision: str | None) -> Path:
    return Path(f"{name}-{target.name}-{target.require_precision(precision)}.bundle")


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


def export_model(
    model: Model,
    target: Target,
    folder: Path,
    options: ExportOptions = ExportOptions(),
    progress: Progress = silent,
) -> tuple[Bundle, Report | None]:
    """Write a bundle; unless told otherwise, prove that its file computes what the model does.

    Raises:
        ConversionError: the target cannot hold the graph, or the converter failed.
        MissingEnvironmentError: the folder cannot be written.
        ParityError: the file computes something else; no bundle is left behind.
        UsageError: the folder exists, or the target does not write that precision.
    """
    require_free(folder, force=options.force)
    if options.gate_db is not None and not 0 < options.gate_db < math.inf:
        raise UsageError(f"A gate of {options.gate_db} dB is none: give a number above 0.")
    backend = backend_for(target.format)
    has_palettes = options.palette_bits is not None
    require_palettes(backend, target, options.palette_bits)
    if options.packed:
        require_packing(model, backend, target)
    require_whole_codes(
        model, target, options.precision, evidence=options.work.evidence, palettes=has_palettes
    )
    if options.work.suppression is not None and options.plan is not None:
        raise UsageError("A plan ends where the network ends; suppress its boxes outside of it.")
    if options.work.evidence and options.plan is not None:
        raise UsageError("A plan runs the network alone; export it whole to have its evidence.")
    network, model = model, working(model, target, options.work)
    progress("capture and rewrite")
    prepared = prepare(model, target, options.precision)
    require_no_errors(prepared, target)
    files = {f"{model.name}{backend.suffix}": prepared}
    plan = None
    if options.plan is not None:
        progress("plan")
        with without_torch_warnings():
            plan, files = _planned(model, target, prepared, options.plan, options.one_file)
    program = prepared.program
    inputs, expected = golden_pair(model, program)
    inputs = {
        spec.name: inputs[spec.name].astype(spec.dtype) for spec in doors(backend, program)[0]
    }
    main = next(iter(files)) if len(files) == 1 else PLAN_FILE
    with new_folder(folder, force=options.force) as partial:
        simplified = []
        for number, (name, ready) in enumerate(files.items(), start=1):
            count = f" ({number} of {len(files)})" if len(files) > 1 else ""
            progress(f"convert to {target.format}{count}")
            in_half = ready.precision != "fp32"
            notes = notes_of(model, plan, name, target)
            backend.write(
                ready.program, partial / name, target, half=in_half, notes=notes,
                palette_bits=options.palette_bits,
            )  # fmt: skip
            if options.simplify:
                progress(f"simplify{count}")
                whole = plan is None or options.one_file
                given = inputs if whole else example_inputs(ready.program)
                simplified.append(backend.simplify(partial / name, given))
            if options.packed:
                backend.pack(partial / name)
        if plan is not None:
            write_plan(partial, plan)
        write_golden(partial, inputs, expected)
        gate = gate_of(model, target, prepared.precision, options.gate_db, palettes=has_palettes)
        report = None
        if options.verify:
            progress("verify")
            names = [tuple(s.name for s in specs) for specs in (program.inputs, program.outputs)]
            file = _loaded(partial, backend, next(iter(files)), plan, names)
            seen = (model.boxes, options.work.suppression)
            report = _proof(file, inputs, expected, prepared, gate, _described(main, options), seen)
            if shows_too_little(expected, options.work.suppression):
                progress("verify what is suppressed")
                report = replace(
                    report, notes=(*report.notes, _candidates(network, target, options))
                )
        fields = manifest_fields(
            model, target, prepared, "; ".join(dict.fromkeys(filter(None, simplified))), report
        )
        fields |= options.work.to_json() | {"palette_bits": options.palette_bits}
        manifest = write_manifest(partial, {**fields, "model": main, "gate": gate.to_json()})
    return Bundle(folder, manifest), report


def _candidates(network: Model, target: Target, options: ExportOptions) -> str:
    """A sentence on the file as it is before it suppresses, where little is left afterwards.

    Raises ParityError if that computes something else.
    """
    before = replace(options, work=replace(options.work, suppression=None), force=False)
    with TemporaryDirectory(prefix="edgekit-candidates-") as folder:
        report = export_model(network, target, Path(folder) / "bundle", before)[1]
    assert report is not None
    figures = ", ".join(f"{output.name} {output.row()[1]} dB" for output in report.outputs)
    return f"the golden input shows few boxes; all candidates before suppression: {figures}, pass"


def _described(written: str, options: ExportOptions) -> str:
    """A bundle's main file in a sentence, with what makes it differ from the model on purpose."""
    overlap = options.plan.overlap if options.plan is not None else None
    if overlap is None:
        return written
    return f"{written} (chunks with an overlap of {overlap}: more comes closer, and --gate says what is enough)"


def require_no_errors(prepared: Prepared, target: Target) -> None:
    """Raises ConversionError for a graph that the target's lints refuse."""
    if prepared.errors:
        first = prepared.errors[0]
        where = f" ({first.source})" if first.source else ""
        raise ConversionError(
            f"{len(prepared.errors)} operator(s) cannot go to {target.name}, first {first.message}"
            f"{where}; --dry-run lists all."
        )


def _planned(
    model: Model, target: Target, prepared: Prepared, request: Request, one_file: bool
) -> tuple[Plan, dict[str, Prepared]]:
    """The plan that the options ask for, and the programs of its model files by name."""
    name = f"{model.name}{backend_for(target.format).suffix}"
    program = captured_model(model).program
    plan, parts = planned_programs(model, program, request, name, one_file=one_file)
    files = {}
    for file, part in parts.items():
        files[file] = made_ready(part, target, prepared.precision, prepared.method)
        require_no_errors(files[file], target)
    return plan, files


def example_inputs(program: Program) -> dict[str, Array]:
    """Seeded noise for a part of a network."""
    random = np.random.default_rng(0)
    return {
        spec.name: random.standard_normal(spec.shape).astype(spec.dtype) for spec in program.inputs
    }


def _loaded(
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


def _proof(
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


def manifest_fields(
    model: Model, target: Target, prepared: Prepared, simplified: str, report: Report | None
) -> dict[str, Any]:
    recipe = model.recipe
    inputs, outputs = doors(backend_for(target.format), prepared.program)
    applied = Counter(decision.rule for decision in prepared.decisions if decision.applied)
    return {
        "schema": 1,
        "name": model.name,
        "family": recipe.family if recipe else None,
        "target": target.name,
        "format": target.format,
        "precision": prepared.precision,
        "inputs": [spec.to_json() for spec in inputs],
        "outputs": [spec.to_json() for spec in outputs],
        **(recipe.contract.declared() if recipe else {}),
        "weights": model.weights,
        "codes": asdict(model.codes) if model.codes else None,
        "captured_by": prepared.method,
        "rewrites": dict(applied),
        "warnings": sorted({finding.message for finding in prepared.findings}),
        "simplify": simplified or None,
        "parity": report.to_json() if report else None,
        "versions": versions_of(target.format),
    }
