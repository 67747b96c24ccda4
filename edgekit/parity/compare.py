"""Outputs of a written file against outputs of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgekit.contract import TensorSpec
from edgekit.report import Gate, OutputParity, Report

Array = npt.NDArray[np.generic]
Float64 = npt.NDArray[np.float64]


def compare(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    specs: tuple[TensorSpec, ...],
    gate: Gate,
    reference: str,
) -> Report:
    """Judge every output in `specs`; `reference` says what computed `actual`."""
    outputs = tuple(_judge(spec, expected, actual, gate) for spec in specs)
    surplus = sorted(set(actual) - {spec.name for spec in specs})
    notes = (f"not compared, because undeclared: {', '.join(surplus)}",) if surplus else ()
    passed = bool(outputs) and all(output.passed for output in outputs)
    return Report(passed, outputs, reference, gate, notes)


def _judge(
    spec: TensorSpec, expected: Mapping[str, Array], actual: Mapping[str, Array], gate: Gate
) -> OutputParity:
    for side, values in (("model", expected), ("file", actual)):
        if spec.name not in values:
            has = ", ".join(values) or "none"
            return _unmeasured(spec, f"the {side} has no output of this name; it has: {has}.")
    wanted, got = np.asarray(expected[spec.name]), np.asarray(actual[spec.name])
    if wanted.shape != got.shape:
        return _unmeasured(spec, f"the file gives shape {got.shape}, the model {wanted.shape}.")
    for side, value in (("model", wanted), ("file", got)):
        if bad := int(np.count_nonzero(~np.isfinite(value))):
            return _unmeasured(spec, f"{bad} of {value.size} values of the {side} are NaN or Inf.")
    return _measure(spec, wanted, got, gate)


def _measure(spec: TensorSpec, expected: Array, actual: Array, gate: Gate) -> OutputParity:
    wanted, got = expected.astype(np.float64), actual.astype(np.float64)
    difference = np.abs(got - wanted)
    max_abs = float(difference.max(initial=0.0))
    mean_abs = float(difference.mean()) if difference.size else 0.0
    decibels = psnr_db(wanted, got, spec.span)
    if np.issubdtype(expected.dtype, np.inexact):
        short = decibels < gate.psnr_db
        reason = f"{decibels:.1f} dB is below the gate of {gate.psnr_db:g} dB." if short else ""
    else:
        # Integers beyond 2**53 are not exact in float64, so equality is asked of the originals.
        wrong = int(np.count_nonzero(expected != actual))
        too_many = wrong > gate.integers_differ * expected.size
        reason = f"{wrong} of {expected.size} integers differ." if too_many else ""
    cosine = cosine_similarity(wanted, got)
    return OutputParity(spec.name, decibels, max_abs, mean_abs, cosine, not reason, reason)


def psnr_db(expected: Float64, actual: Float64, span: float | None = None) -> float:
    """Signal-to-noise ratio; the peak is `span`, else the largest magnitude expected, else 1."""
    error = float(np.mean(np.square(actual - expected))) if expected.size else 0.0
    if error == 0.0:
        return math.inf
    peak = span or float(np.abs(expected).max()) or 1.0
    return 20.0 * math.log10(peak) - 10.0 * math.log10(error)


def cosine_similarity(expected: Float64, actual: Float64) -> float:
    """1 if both are all zeros, 0 if only one is."""
    lengths = float(np.linalg.norm(expected)), float(np.linalg.norm(actual))
    if 0.0 in lengths:
        return float(lengths[0] == lengths[1])
    cosine = float(np.dot(expected.ravel() / lengths[0], actual.ravel() / lengths[1]))
    return min(1.0, max(-1.0, cosine))


def _unmeasured(spec: TensorSpec, reason: str) -> OutputParity:
    return OutputParity(spec.name, math.nan, math.nan, math.nan, math.nan, False, reason)
