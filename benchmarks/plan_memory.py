"""Memory plans in onnxruntime: peak and time of the plan against the whole model, and their difference.

    python tests/fetch_assets.py srvgg_bin srvgg_param flower      # for srvgg
    python benchmarks/plan_memory.py [unet-4x4] [unet-8x8] [mobilenet] [srvgg] [--threads 1]

Peaks are high-water marks of fresh processes above the loaded sessions, third run; the output array
is counted, the input array is not (facts C4). "default" is onnxruntime as it comes, on both sides;
"frugal" is what plans ask for: one shared arena, no memory patterns, no reuse of buffers; on both sides. Times are medians of
interleaved rounds: the whole model as it comes, the plan with frugal ones. The difference is
that of the plan to the whole file at optimisation level EXTENDED.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from srvgg_weights import state_dict

import edgekit
from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.onnx.session import NAMED, SessionOptions
from edgekit.bundle import Bundle, open_bundle
from edgekit.parity.memory_use import Case, NotMeasured, Prepared, measure
from edgekit.plan.plan import read_plan
from edgekit.plan.runner import PlanRunnable


@dataclass(frozen=True)
class Subject:
    model: str
    height: int
    width: int
    plan: dict[str, str]
    photo: bool = False
    """Real weights on a real photo, instead of seeded noise."""


SUBJECTS = {
    "unet-4x4": Subject("unet-c16", 1024, 1024, {"tiles": "4x4"}),
    "unet-8x8": Subject("unet-c16", 1024, 1024, {"tiles": "8x8"}),
    "mobilenet-8MiB": Subject("mobilenet-v2", 1024, 1024, {"memory_budget": "8MiB"}),
    "mobilenet": Subject("mobilenet-v2", 1024, 1024, {"memory_budget": "32MiB"}),
    "srvgg": Subject(
        "realesr-animevideov3-x4", 1512, 2268, {"memory_budget": "720MiB"}, photo=True
    ),
}
ASSETS = Path("~/.cache/edgekit/assets").expanduser()


@dataclass(frozen=True)
class Settings:
    """Opens a plan's files with settings other than its own."""

    options: SessionOptions

    def load(self, path: Path, session: str, arena_bytes: int) -> OnnxRunnable:  # noqa: ARG002  # a backend's
        memory = self.options.memory
        if memory.arena == "shared":
            memory = replace(memory, first_chunk_bytes=arena_bytes)
        return load(path, replace(self.options, memory=memory))


def runnable(bundle: Bundle, options: SessionOptions) -> Any:
    plan = read_plan(bundle.path)
    if plan is None:
        return load(bundle.model_file, options)
    names = [tuple(spec.name for spec in specs) for specs in (bundle.inputs, bundle.outputs)]
    backend: Any = Settings(options)
    return PlanRunnable(bundle.path, plan, backend, names[0], names[1])


def inputs_of(bundle: Bundle, subject: Subject) -> dict[str, Any]:
    if not subject.photo:
        return bundle.golden()[0]
    picture = np.asarray(Image.open(ASSETS / "flower.png").convert("RGB"), dtype=np.float32) / 255
    return {bundle.inputs[0].name: np.ascontiguousarray(picture.transpose(2, 0, 1)[None])}


def weights_of(subject: Subject, folder: Path) -> str | None:
    if not subject.photo:
        return None
    name = "realesr-animevideov3-x4"
    content = (ASSETS / f"{name}.bin").read_bytes()
    path = folder / f"{name}.safetensors"
    save_file(state_dict((ASSETS / f"{name}.param").read_text(), content), path)
    return str(path)


def prepare(bundle: str, memory: str, threads: int, name: str) -> Prepared:
    """In the measuring process."""
    opened = open_bundle(Path(bundle))
    file = runnable(opened, SessionOptions(threads, NAMED[memory]))
    inputs = inputs_of(opened, SUBJECTS[name])
    return Prepared(
        lambda: file.run(inputs), sum(v.nbytes for v in inputs.values()), {"memory": memory}
    )


def peak(bundle: Bundle, memory: str, threads: int, name: str) -> float:
    """MiB."""
    arguments = {"bundle": str(bundle.path), "memory": memory, "threads": threads, "name": name}
    use = measure(Case(f"{Path(__file__).stem}:prepare", arguments))
    if isinstance(use, NotMeasured):
        sys.exit(f"not measured here: {use.reason}")
    return use.third_run_peak_bytes / 2**20


def compare(name: str, subject: Subject, threads: int, rounds: int, folder: Path) -> None:
    model = edgekit.load(
        subject.model, weights_of(subject, folder), height=subject.height, width=subject.width
    )
    whole = edgekit.export(model, target="onnx", output=folder / f"{name}-whole")
    plan = edgekit.export(model, target="onnx", output=folder / f"{name}-plan", **subject.plan)
    made = read_plan(plan.path)
    assert made is not None
    print(
        f"{name}: {subject.model} {subject.height}x{subject.width}, {subject.plan}, "
        f"{sum(len(stage.windows) for stage in made.stages)} windows, "
        f"{len({model.file for stage in made.stages for model in stage.models})} files, "
        f"MACs {made.mac_overhead:+.1%}, live activations predicted "
        f"{made.whole_peak_bytes / 2**20:.1f} -> {made.peak_bytes / 2**20:.1f} MiB"
    )
    for memory in ("default", "frugal"):
        before, after = (peak(bundle, memory, threads, name) for bundle in (whole, plan))
        print(
            f"  peak, {memory} settings: {before:.1f} -> {after:.1f} MiB, {before / after:.1f} times less",
            flush=True,
        )
    inputs = inputs_of(whole, subject)
    extended = SessionOptions(threads, NAMED["frugal"], "extended")
    results = [runnable(bundle, extended).run(inputs) for bundle in (whole, plan)]
    difference = max(float(np.abs(results[0][key] - results[1][key]).max()) for key in results[0])
    print(f"  difference at EXTENDED: {difference:.1e}{' (bit-equal)' if difference == 0 else ''}")
    files = [
        runnable(whole, SessionOptions(threads)),
        runnable(plan, SessionOptions(threads, NAMED["frugal"])),
    ]
    seconds: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        order = list(zip(files, seconds, strict=True))
        for file, times in order[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            file.run(inputs)
            if number:
                times.append(time.perf_counter() - started)
    before, after = (statistics.median(times) for times in seconds)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    print(
        f"  time, {threads} thread(s): whole {before * 1e3:.0f} ms, plan {after * 1e3:.0f} ms, "
        f"{ratio:.2f} times",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), choices=[*SUBJECTS, []])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.subjects:
            compare(name, SUBJECTS[name], arguments.threads, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
