"""Video decoders as streams in onnxruntime: memory at two lengths of clip, and time against the whole.

    python benchmarks/plan_stream.py [mini] [ltx] [--rounds 5]

Peaks are high-water marks of fresh processes above the loaded sessions (third run), with frugal
settings; frames are fed one step at a time and dropped as they come. Where the whole clip's own
decode is printed beside it, so is its time, in interleaved rounds, and the difference of the two.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgekit
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import NAMED, SessionOptions
from edgekit.backends.runnable import Array
from edgekit.bundle import Bundle, open_bundle
from edgekit.parity.memory_use import Case, NotMeasured, Prepared, measure
from edgekit.plan.live import streamed_through
from edgekit.plan.plan import read_plan
from edgekit.plan.runner import PlanRunnable, open_runnable


@dataclass(frozen=True)
class Subject:
    model: str
    height: int
    width: int
    frames: int
    step: int
    """Input frames."""
    whole: bool
    """Whether the whole decode of the clip is run beside it."""


SUBJECTS = {
    "mini": Subject("turbo-vaed-mini", 512, 512, 48, 4, whole=True),
    "ltx": Subject("turbo-vaed-ltx", 256, 256, 257, 1, whole=False),
}


def latent_of(bundle: Bundle, times: int) -> Array:
    """Seeded noise, `times` repetitions longer than the plan's clip."""
    plan = read_plan(bundle.path)
    assert plan is not None
    repeat = plan.stages[0].repeat
    assert repeat is not None
    shape = list(plan.tensors[plan.stages[0].source].shape)
    shape[repeat.dim] += times * repeat.read_by
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def steps(latent: Array, step: int) -> Iterator[Array]:
    return (latent[:, :, at : at + step] for at in range(0, latent.shape[2], step))


def prepare(bundle: str, times: int, step: int) -> Prepared:
    """In the measuring process."""
    opened = open_bundle(Path(bundle))
    runnable = open_runnable(opened)
    assert isinstance(runnable, PlanRunnable)
    latent = latent_of(opened, times)

    def run() -> None:
        for _ in streamed_through(runnable, steps(latent, step)):
            pass

    return Prepared(run, latent.nbytes, {})


def prepare_whole(bundle: str) -> Prepared:
    opened = open_bundle(Path(bundle))
    file = load(opened.model_file, SessionOptions(memory=NAMED["frugal"]))
    inputs = opened.golden()[0]
    return Prepared(lambda: file.run(inputs), sum(v.nbytes for v in inputs.values()), {})


def peak_mib(function: str, arguments: dict[str, object]) -> float:
    use = measure(Case(f"{Path(__file__).stem}:{function}", arguments))
    if isinstance(use, NotMeasured):
        sys.exit(f"not measured here: {use.reason}")
    return use.third_run_peak_bytes / 2**20


def report(name: str, subject: Subject, rounds: int, folder: Path) -> None:
    model = edgekit.load(
        subject.model, height=subject.height, width=subject.width, frames=subject.frames
    )
    stream = edgekit.export(
        model, output=folder / f"{name}-stream", stream=subject.step, verify=False
    )
    plan = read_plan(stream.path)
    assert plan is not None
    (stage,) = plan.stages
    print(
        f"{name}: {subject.model} {subject.width}x{subject.height}, {subject.frames} frames, "
        f"{subject.step} latent frames a step, {len(stage.models)} programs, live activations predicted "
        f"{plan.whole_peak_bytes / 2**20:.0f} -> {plan.peak_bytes / 2**20:.0f} MiB, of which "
        f"{plan.tensors[stage.result].nbytes / 2**20:.0f} are the clip",
        flush=True,
    )
    for times in (0, 4 * len(stage.windows)):
        frames = latent_of(stream, times).shape[2]
        peak = peak_mib(
            "prepare", {"bundle": str(stream.path), "times": times, "step": subject.step}
        )
        print(f"  stream of {frames} latent frames: {peak:.0f} MiB", flush=True)
    latent = latent_of(stream, 0)
    runnable = open_runnable(stream)
    assert isinstance(runnable, PlanRunnable)
    if not subject.whole:
        started = time.perf_counter()
        for _ in streamed_through(runnable, steps(latent, subject.step)):
            pass
        print(f"  decoded in {time.perf_counter() - started:.1f} s")
        return
    whole = edgekit.export(model, output=folder / f"{name}-whole", verify=False)
    print(f"  whole: {peak_mib('prepare_whole', {'bundle': str(whole.path)}):.0f} MiB")
    file = open_runnable(whole)
    seconds: list[list[float]] = [[], []]
    expected = file.run({"latent": latent})["video"]
    found = np.concatenate(list(streamed_through(runnable, steps(latent, subject.step))), 2)
    print(f"  difference to the whole file: {float(np.abs(found - expected).max()):.1e}")
    for _ in range(rounds):
        started = time.perf_counter()
        file.run({"latent": latent})
        seconds[0].append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in streamed_through(runnable, steps(latent, subject.step)):
            pass
        seconds[1].append(time.perf_counter() - started)
    before, after = (statistics.median(times) for times in seconds)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    print(
        f"  time: whole {before:.2f} s, stream {after:.2f} s, {ratio:.2f} times (median of rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("subjects", nargs="*", default=[*SUBJECTS], choices=[*SUBJECTS])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgekit-stream-") as folder:
        for name in options.subjects:
            report(name, SUBJECTS[name], options.rounds, Path(folder))


if __name__ == "__main__":
    main()
