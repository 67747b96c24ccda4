"""Float against quantised: latency in onnxruntime, quality, bytes, for a decoder, a detector and a classifier.

    python tests/fetch_assets.py efficientnet_lite0 labelled_photographs photographs nature
    OMP_NUM_THREADS=1 python benchmarks/quantise.py [NAME ...] [--weights-bits 7] [--repair statistics]

Calibrated with photographs (the decoder: with the latents of its sample, one in two) and judged by others. Runs
of float and quantised file take turns, one thread, medians. Of the classifier: how many of the twenty labelled
photographs each names rightly, and how many of all that are judged both name alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import edgekit
from edgekit import Bundle, QuantiseOptions
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.compress.quantise_options import Repair
from edgekit.demo import read_sample
from edgekit.detection.picture_file import picture_files
from edgekit.folder_inputs import FolderInputs
from edgekit.model import Model
from edgekit.quantising import model_bytes, quality_of
from edgekit.split_pictures import required_contract

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

NAMES = ("turbo-vaed-mini", "leyolo-composites", "efficientnet-lite0")
FRAMES = 2
CALIBRATED = 24
"""Photographs at most."""
WARM_UP = 3


@dataclass(frozen=True)
class Case:
    model: Model
    calibrating: Sequence[Tensor]
    judging: Sequence[Tensor]
    labels: tuple[int, ...] = ()
    """Of the first that are judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--weights-bits", type=int, default=7)
    parser.add_argument("--repair", default="statistics")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calibrate", type=int, default=CALIBRATED)
    parser.add_argument(
        "--processor-time", action="store_true", help="for a machine with other load"
    )
    asked = parser.parse_args()
    repair: Repair = asked.repair
    options = QuantiseOptions(weight_bits=asked.weights_bits, repair=repair, steps=asked.steps)
    clock = time.process_time if asked.processor_time else time.perf_counter
    kind = "of processor time" if asked.processor_time else "as a clock shows them"
    print(
        f"w{asked.weights_bits}a8, repair {repair}; 1 thread, medians of {asked.rounds} runs in turns, ms {kind}"
    )
    heading = [
        "model",
        "float",
        "int8",
        "ratio",
        "PSNR dB",
        "same class",
        "labels float",
        "int8",
        "MB float",
        "int8",
    ]
    print(f"| {' | '.join(heading)} |\n{'|---' * len(heading)}|")
    for name in asked.names:
        with tempfile.TemporaryDirectory() as folder:
            row = measured(case(name, asked.calibrate), Path(folder), options, asked.rounds, clock)
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def case(name: str, calibrated: int) -> Case:
    if name == "turbo-vaed-mini":
        latent = torch.from_numpy(read_sample()[0])
        model = edgekit.load(
            name, height=8 * latent.shape[3], width=8 * latent.shape[4], frames=FRAMES
        )
        chunks = list(latent.split(FRAMES, dim=2))
        return Case(model, chunks[::2], chunks[1::2])
    weights = required("efficientnet_lite0") if name == "efficientnet-lite0" else None
    model = edgekit.load(name, weights)
    contract, shape = required_contract(model), tuple(model.example_inputs[0].shape)
    photographs = [*picture_files(required("photographs")), *picture_files(required("nature"))]
    used, rest = photographs[:calibrated], photographs[calibrated:]
    labelled = [
        p for p in picture_files(required("labelled_photographs")) if p.name.startswith("imagenet")
    ]
    labels = tuple(int(path.stem.rpartition("_")[2]) for path in labelled)
    calibrating, judging = (
        FolderInputs(tuple(files), shape, contract) for files in (used, [*labelled, *rest])
    )
    return Case(model, calibrating, judging, labels if weights else ())


def required(name: str) -> Path:
    found = asset(name)
    if found is None:
        sys.exit(f"{name} is not fetched; run: python tests/fetch_assets.py {name}")
    return found


def measured(
    given: Case, folder: Path, options: QuantiseOptions, rounds: int, clock: Callable[[], float]
) -> list[str]:
    quantised = edgekit.quantize(given.model, given.calibrating, options)
    plain, small = (
        edgekit.export(model, target="onnx", output=folder / kind, simplify=False)
        for model, kind in ((given.model, "float"), (quantised, "int8"))
    )
    quality = quality_of(small, given.model, given.judging)
    times = [latency(bundle) for bundle in (plain, small)]
    float_ms, small_ms = in_turns(times, rounds, clock)
    worst = min(output.psnr_db for output in quality.outputs)
    right = [str(rightly(bundle, given)) if given.labels else "" for bundle in (plain, small)]
    same = f"{quality.agreement:.1%} of {quality.inputs}" if quality.agreement is not None else ""
    sizes = [f"{model_bytes(bundle) / 1e6:.2f}" for bundle in (plain, small)]
    return [
        f"{float_ms:.1f}", f"{small_ms:.1f}", f"{float_ms / small_ms:.2f}", f"{worst:.1f}", same, *right, *sizes
    ]  # fmt: skip


def latency(bundle: Bundle) -> Callable[[], object]:
    file, inputs = load(bundle.model_file, SessionOptions(1)), bundle.golden()[0]
    return lambda: file.run(inputs)


def in_turns(
    runs: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(WARM_UP + rounds):
        for run, times in zip(runs, taken, strict=True):
            started = clock()
            run()
            if turn >= WARM_UP:
                times.append(1000 * (clock() - started))
    return [statistics.median(times) for times in taken]


def rightly(bundle: Bundle, given: Case) -> int:
    found = [
        int(np.argmax(edgekit.run(bundle, given.judging[index].numpy())[0]))
        for index in range(len(given.labels))
    ]
    return sum(a == b for a, b in zip(found, given.labels, strict=True))


if __name__ == "__main__":
    main()
