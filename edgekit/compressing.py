"""Prune, train again, quantise, export: one model through all of it, and what each step costs and saves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.backends.runnable import Array, Runnable
from edgekit.bundle import Bundle
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import prune_model
from edgekit.compress.quantise import quantize
from edgekit.compress.quantise_options import QuantiseOptions
from edgekit.distillation.network_inputs import varied_inputs
from edgekit.distillation.run_folder import require_resumed
from edgekit.exporting import ExportOptions, Progress, export_model, silent
from edgekit.folder_inputs import FolderInputs, divided, inputs_in
from edgekit.model import Model
from edgekit.plan.runner import open_runnable
from edgekit.profiling.timing import timed_ms
from edgekit.pruning import recovered
from edgekit.quantising import Quality, quality_of
from edgekit.report import Report, aligned
from edgekit.target import Target

PRUNING_BATCH = 4
WARM_UP = 2


@dataclass(frozen=True)
class CompressOptions:
    prune: PruneOptions | None
    """None: all channels stay."""
    steps: int
    """To train for, on the folder's inputs but those that judge, with the whole network as teacher."""
    quantise: QuantiseOptions | None
    """None: numbers stay floats."""
    measured_on: int = 16
    """Inputs that channels are chosen by, and the most that a step is judged by."""
    resume: bool = False
    """Go on with a training that was stopped."""
    rounds: int = 21
    """Of all steps' files, by turns."""


@dataclass(frozen=True)
class Step:
    """The model as it is after one step of its compression."""

    name: str
    macs: int
    milliseconds: float | None
    """Median of a run of its file; None where files of the format run on other machines only."""
    quality: Quality
    """Of its file against the float model as it was, on inputs that nothing was chosen or calibrated by."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "quality": self.quality.to_json()}


@dataclass(frozen=True)
class Compressed:
    bundle: Bundle
    report: Report | None
    """Of the last file against the last model."""
    steps: tuple[Step, ...]

    def table(self) -> str:
        rows = [("", "million MACs", "files MB", "ms", "PSNR dB", "same class")]
        for step in self.steps:
            quality = step.quality
            decibels = ", ".join(f"{output.psnr_db:.1f}" for output in quality.outputs)
            agreed = "" if quality.agreement is None else f"{quality.agreement:.1%}"
            took = "" if step.milliseconds is None else f"{step.milliseconds:.2f}"
            size = f"{quality.file_bytes / 1e6:.2f}"
            rows.append((step.name, f"{step.macs / 1e6:.1f}", size, took, decibels, agreed))
        return aligned(rows)


def compress_model(
    model: Model,
    target: Target,
    folder: Path,
    data: Path,
    options: CompressOptions,
    export: ExportOptions,
    progress: Progress = silent,
) -> Compressed:
    """Writes the bundle of the last step to `folder`, and the run of a training beside it.

    Raises what `prune_model`, `recovered`, `quantize` and `export_model` do.
    """
    if options.steps:
        require_resumed(run_of(folder), resume=options.resume)
    calibrating, judging = divided(inputs_in(data, model))
    judging = judging[: options.measured_on]
    models = _models(model, calibrating, folder, options, progress)
    with TemporaryDirectory(prefix="edgekit-compress-") as others:
        bundles: list[Bundle] = []
        report = None
        for number, (name, (found, _)) in enumerate(models.items(), start=1):
            is_last = number == len(models)
            progress(f"export: {name}")
            where = folder if is_last else Path(others) / str(number)
            asked = export if is_last else replace(export, verify=False, force=False, plan=None)
            bundle, report = export_model(found, target, where, asked, progress)
            bundles.append(bundle)
        progress("time by turns")
        files = [open_runnable(bundle) for bundle in bundles]
        is_timed = target.format == "onnx"
        times = by_turns(files, _example(bundles[0]), options.rounds) if is_timed else None
        steps = []
        for number, (name, (_, macs)) in enumerate(models.items()):
            progress(f"quality: {name}")
            quality = quality_of(bundles[number], model, judging)
            steps.append(Step(name, macs, times[number] if times else None, quality))
    return Compressed(bundles[-1], report, tuple(steps))


def _models(
    model: Model,
    calibrating: FolderInputs,
    folder: Path,
    options: CompressOptions,
    progress: Progress,
) -> Mapping[str, tuple[Model, int]]:
    """The model and its multiply-accumulates after each step, by the step's name."""
    made: dict[str, tuple[Model, int]] = {"whole": (model, 0)}
    found, macs = model, 0
    if options.prune is not None:
        batches = calibrating.batches(options.measured_on, PRUNING_BATCH)
        pruned = prune_model(model, options.prune, batches, progress)
        whole, macs = pruned.macs
        found = pruned.model
        made = {"whole": (model, whole), "pruned": (found, macs)}
        if options.steps:
            training = varied_inputs(model, calibrating.files)
            trained = recovered(
                pruned, model, training, options.steps, batches, run=run_of(folder),
                resume=options.resume, progress=progress,
            )  # fmt: skip
            found = trained.model
            made["trained again"] = (found, macs)
    if options.quantise is not None:
        progress("calibrate and quantise")
        coded = quantize(found, calibrating, options.quantise)
        assert coded.codes is not None
        made["quantised"] = (coded, macs or coded.codes.of_macs)
        made["whole"] = (model, made["whole"][1] or coded.codes.of_macs)
    return made


def run_of(folder: Path) -> Path:
    """Where the training of the model in `folder` is kept."""
    return folder.with_name(f"{folder.name}.run")


def _example(bundle: Bundle) -> Mapping[str, Array]:
    return bundle.golden()[0]


def by_turns(
    files: Sequence[Runnable], inputs: Mapping[str, Array], rounds: int
) -> tuple[float, ...]:
    """Median milliseconds of a run of each, one after the other in each round, so that other load meets all."""
    taken: list[list[float]] = [[] for _ in files]
    for number in range(WARM_UP + rounds):
        for file, times in zip(files, taken):
            milliseconds = timed_ms(lambda file=file: file.run(inputs))  # type: ignore[misc]
            if number >= WARM_UP:
                times.append(milliseconds)
    return tuple(statistics.median(times) for times in taken)
