"""From a float model to the verified bundle of a quantised one, and what the codes cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle
from edgekit.compress.calibration import Inputs, as_arguments
from edgekit.compress.quantise import quantize
from edgekit.compress.quantise_options import QuantiseOptions
from edgekit.exporting import ExportOptions, Progress, export_model, silent
from edgekit.image_contract import ImageContract, Logits
from edgekit.model import Model
from edgekit.parity.compare import psnr_db
from edgekit.plan.runner import open_runnable
from edgekit.report import Report, aligned, json_number
from edgekit.target import Target


@dataclass(frozen=True)
class OutputQuality:
    """Of the file against the float model, over inputs that were not calibrated with."""

    name: str
    psnr_db: float
    """Mean over the inputs."""
    least_psnr_db: float


@dataclass(frozen=True)
class Quality:
    outputs: tuple[OutputQuality, ...]
    agreement: float | None
    """Share of inputs whose best class is the float model's; None: no classifier."""
    inputs: int
    parameter_bytes: int
    """Of the float model, in single precision."""
    file_bytes: int
    """Of the bundle's model files."""

    def to_json(self) -> dict[str, Any]:
        return {
            "outputs": [
                {"name": output.name, "psnr_db": json_number(output.psnr_db),
                 "least_psnr_db": json_number(output.least_psnr_db)}
                for output in self.outputs
            ],
            "agreement": self.agreement,
            "inputs": self.inputs,
            "parameter_bytes": self.parameter_bytes,
            "file_bytes": self.file_bytes,
        }  # fmt: skip

    def text(self) -> str:
        rows = [("against the float model", "PSNR dB", "least")]
        rows += [
            (output.name, f"{output.psnr_db:.1f}", f"{output.least_psnr_db:.1f}")
            for output in self.outputs
        ]
        lines = [aligned(rows)]
        if self.agreement is not None:
            lines.append(f"same best class: {self.agreement:.1%} of {self.inputs} inputs")
        smaller = self.parameter_bytes / max(1, self.file_bytes)
        lines.append(
            f"files {self.file_bytes / 1e6:.2f} MB, float parameters {self.parameter_bytes / 1e6:.2f} MB "
            f"({smaller:.2f} times)"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Quantisation:
    bundle: Bundle
    report: Report | None
    """Of the file against the quantised model itself."""
    quality: Quality
    model: Model


def export_quantised(
    model: Model,
    target: Target,
    folder: Path,
    data: tuple[Iterable[Inputs], Sequence[Inputs]],
    options: QuantiseOptions,
    export: ExportOptions,
    progress: Progress = silent,
) -> Quantisation:
    """`data` are inputs to calibrate with and inputs to judge by.

    Raises what `edgekit.compress.quantise.quantize` and `export_model` do.
    """
    calibrating, judging = data
    progress("calibrate and quantise")
    quantised = quantize(model, calibrating, options)
    bundle, report = export_model(quantised, target, folder, export, progress)
    progress("compare with the float model")
    return Quantisation(bundle, report, quality_of(bundle, model, judging), quantised)


def quality_of(bundle: Bundle, model: Model, inputs: Sequence[Inputs]) -> Quality:
    """Of a bundle's file, run as its manifest says, against the float model."""
    file = open_runnable(bundle)
    names = [spec.name for spec in bundle.inputs]
    decibels: dict[str, list[float]] = {spec.name: [] for spec in bundle.outputs}
    agreed = 0
    for given in inputs:
        arguments = as_arguments(given)
        found = file.run({name: value.numpy() for name, value in zip(names, arguments)})
        expected = [value.numpy() for value in _as_list(model(*arguments))]
        for spec, wanted in zip(bundle.outputs, expected, strict=True):
            decibels[spec.name].append(_psnr(wanted, found[spec.name], spec.span))
        agreed += int(expected[0].argmax() == found[bundle.outputs[0].name].argmax())
    return Quality(
        tuple(
            OutputQuality(name, float(np.mean(values)), min(values))
            for name, values in decibels.items()
        ),
        agreed / len(inputs) if _classifies(model) else None,
        len(inputs),
        sum(4 * parameter.numel() for parameter in model.module.parameters()),
        model_bytes(bundle),
    )


def model_bytes(bundle: Bundle) -> int:
    """Of all files that a runtime reads."""
    names: dict[str, str] = bundle.manifest["files"]
    return sum(
        (bundle.path / name).stat().st_size for name in names if not name.startswith("golden.")
    )


def _psnr(wanted: Array, found: Array, span: float | None) -> float:
    return psnr_db(wanted.astype(np.float64), found.astype(np.float64), span)


def _as_list(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _classifies(model: Model) -> bool:
    contract = model.recipe.contract if model.recipe else None
    return isinstance(contract, ImageContract) and isinstance(contract.output, Logits)
