"""A plan's predicted peak against what onnxruntime needs for it in a fresh process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.backends.onnx.session import NAMED
from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle, open_bundle
from edgekit.parity.memory_use import Case, NotMeasured, Prepared, measure
from edgekit.plan.plan import read_plan
from edgekit.plan.runner import open_runnable
from edgekit.report import PlannedMemory

TOLERANCE = 1.15
"""A peak above this many times the predicted one fails."""
GRANULARITY_BYTES = 4 << 20
"""What allocators, threads and Python move in the same process; a plan is not blamed for it."""


def measured_memory(bundle: Bundle) -> PlannedMemory | None:
    """None for a bundle without a plan. Where nothing is comparable, the reason stands instead."""
    plan = read_plan(bundle.path)
    if plan is None:
        return None

    def unmeasured(reason: str) -> PlannedMemory:
        return PlannedMemory(plan.peak_bytes, plan.whole_peak_bytes, None, True, reason)

    if bundle.format != "onnx":
        return unmeasured("the reference interpreter's memory is not a device's")
    if bundle.manifest["precision"] != "fp32":
        return unmeasured("onnxruntime's CPU provider computes half-precision files in float32")
    use = measure(Case(f"{__name__}:prepare", {"bundle": str(bundle.path.resolve())}))
    if isinstance(use, NotMeasured):
        return unmeasured(use.reason)
    measured = use.third_run_peak_bytes + use.input_bytes
    passed = measured <= TOLERANCE * plan.peak_bytes + GRANULARITY_BYTES
    return PlannedMemory(
        plan.peak_bytes,
        plan.whole_peak_bytes,
        measured,
        passed,
        f"third run in a fresh process ({use.method}), session settings '{plan.session}', input and "
        "output counted",
    )


def prepare(bundle: str) -> Prepared:
    """In the measuring process: open the bundle and its golden input."""
    opened = open_bundle(Path(bundle))
    file = open_runnable(opened)
    inputs: dict[str, Array] = {
        name: np.ascontiguousarray(value) for name, value in opened.golden()[0].items()
    }
    plan = read_plan(opened.path)
    settings = vars(NAMED[plan.session if plan else "default"])
    return Prepared(
        lambda: file.run(inputs), sum(value.nbytes for value in inputs.values()), dict(settings)
    )
