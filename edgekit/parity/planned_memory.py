"""A plan's predicted peak against what onnxruntime needs for it in a fresh process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.backends.onnx.session import NAMED
from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import UsageError
from edgekit.parity.arena_peak import METHOD, arena_peak_bytes
from edgekit.parity.memory_use import Case, NotMeasured, Prepared, measure
from edgekit.plan.plan import Plan, read_plan
from edgekit.plan.runner import open_runnable
from edgekit.plan.stage_memory import stored_beside
from edgekit.report import PlannedMemory

TOLERANCE = 1.15
"""A peak above this many times the predicted one fails."""
GRANULARITY_BYTES = 64 << 10
"""Of small tensors that a runtime adds and rounds up; a plan is not blamed for them."""


def measured_memory(bundle: Bundle) -> PlannedMemory | None:
    """None for a bundle without a plan. Where nothing is comparable, the reason stands instead."""
    plan = read_plan(bundle.path)
    if plan is None:
        return None

    def found(live: int | None, process: int | None, method: str) -> PlannedMemory:
        most = TOLERANCE * plan.peak_bytes + GRANULARITY_BYTES
        passed = live is None or live <= most
        return PlannedMemory(plan.peak_bytes, plan.whole_peak_bytes, live, process, passed, method)

    if bundle.format != "onnx":
        return found(None, None, "the reference interpreter's memory is not a device's")
    if bundle.manifest["precision"] != "fp32":
        return found(None, None, "onnxruntime's CPU provider computes half precision in float32")
    live = live_bytes(bundle, plan)
    if isinstance(live, NotMeasured):
        return found(None, None, live.reason)
    try:
        use = measure(Case(f"{__name__}:prepare", {"bundle": str(bundle.path.resolve())}))
    except UsageError as error:  # the live bytes stand without it
        return found(live, None, f"{METHOD}; no fresh process: {error}")
    process = None if isinstance(use, NotMeasured) else use.third_run_peak_bytes
    return found(live, process, METHOD)


def live_bytes(bundle: Bundle, plan: Plan) -> int | NotMeasured:
    """The plan's worst stage: its worst model's run and the arrays that the host holds beside it."""
    given = {spec.name for spec in bundle.inputs}
    random = np.random.default_rng(0)
    worst = 0
    for stage in plan.stages:
        source, result = (plan.tensors[name] for name in (stage.source, stage.result))
        whole = stage.is_whole and not stage.averaged
        beside = 0 if stage.source in given else source.nbytes
        beside += 0 if whole else result.nbytes
        for number, (model, stored) in enumerate(
            zip(stage.models, stored_beside(stage), strict=True)
        ):
            read = next(w.read for w in stage.windows if w.model == number)
            inputs: dict[str, Array] = {
                port.name: random.standard_normal(port.shape).astype(port.dtype)
                for port in model.before
            }
            if all(stop > start for start, stop in read):
                inputs[stage.input] = random.standard_normal(
                    [stop - start for start, stop in read]
                ).astype(source.dtype)
            reuse = NAMED[model.session].reuse
            run = arena_peak_bytes(bundle.path / model.file, inputs, reuse=reuse)
            if isinstance(run, NotMeasured):
                return run
            given_bytes = 0 if whole else sum(array.nbytes for array in inputs.values())
            worst = max(worst, run + beside + stored + given_bytes)
    return worst


def prepare(bundle: str) -> Prepared:
    """In the measuring process: open the bundle and its golden input."""
    opened = open_bundle(Path(bundle))
    file = open_runnable(opened)
    inputs: dict[str, Array] = {
        name: np.ascontiguousarray(value) for name, value in opened.golden()[0].items()
    }
    plan = read_plan(opened.path)
    settings = vars(NAMED["frugal" if plan else "default"])
    return Prepared(
        lambda: file.run(inputs), sum(value.nbytes for value in inputs.values()), dict(settings)
    )
