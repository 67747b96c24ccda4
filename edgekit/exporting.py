"""The road from a Model to a verified Bundle, and the dry run that stops before conversion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.backends.registry import backend_for
from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle, new_folder, require_free, write_golden, write_manifest
from edgekit.detection.in_the_file import NETWORK_ONLY, InTheFile
from edgekit.errors import UsageError
from edgekit.export_checks import gate_of, require_packing, require_palettes, require_whole_codes
from edgekit.export_manifest import notes_of, versions_of
from edgekit.export_proof import golden_pair, loaded, proof
from edgekit.model import Model
from edgekit.parity.detections import shows_too_little
from edgekit.plan.choose import Request
from edgekit.plan.plan import FILE as PLAN_FILE
from edgekit.plan.plan import Plan, write_plan
from edgekit.planned_programs import planned_programs
from edgekit.prepared import (
    Prepared,
    captured_model,
    doors,
    made_ready,
    prepare,
    require_no_errors,
    working,
)
from edgekit.program.capture import without_torch_warnings
from edgekit.program.program import Program
from edgekit.report import Report
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


def default_folder(name: str, target: Target, precision: str | None) -> Path:
    return Path(f"{name}-{target.name}-{target.require_precision(precision)}.bundle")


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
            file = loaded(partial, backend, next(iter(files)), plan, names)
            seen = (model.boxes, options.work.suppression)
            report = proof(file, inputs, expected, prepared, gate, _described(main, options), seen)
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
