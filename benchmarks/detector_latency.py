"""Every detector of the papers from JPEG to boxes in onnxruntime: edgekit's file against a plain torch.onnx.export.

    python tests/fetch_assets.py photographs
    OMP_NUM_THREADS=1 python benchmarks/detector_latency.py [leyolo-nano ...] [--image street.jpg]

Same weights (bundled or random: time does not depend on them), same runtime, one thread unless --threads
says otherwise, each at its recipe's size, which is its paper's. Decoding, resizing, normalisation and
suppression are the same code on both sides; runs take turns, so that other load meets both. `alone` is the
network without them. With --in-the-file a last column has the file of --bake-preprocessing and --nms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

import edgekit
from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.box_contract import Boxes
from edgekit.bundle import Bundle
from edgekit.detection.detector import Detector, detector_of_bundle
from edgekit.detection.picture_file import read_picture
from edgekit.image_contract import ImageContract
from edgekit.model import Model
from edgekit.recipe import all_recipes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fetch_assets import asset

PHOTOGRAPH = "Bridge_by_Sander_Klootwijk.jpg"
PICTURE_PX = (1280, 720)
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all detectors")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--image", type=Path, help="default: a photograph as JPEG of 1280x720")
    parser.add_argument(
        "--processor-time", action="store_true", help="for a machine with other load"
    )
    parser.add_argument("--in-the-file", action="store_true", help="the file that does it all too")
    asked = parser.parse_args()
    kind = "of processor time" if asked.processor_time else "as a clock shows them"
    print(f"{asked.threads} thread(s), medians of {asked.rounds} interleaved runs, ms {kind}")
    heading = ["model", "size", "plain", "edgekit", "ratio", "alone: plain", "edgekit", "ratio"]
    heading += ["all in the file"] if asked.in_the_file else []
    print(f"| {' | '.join(heading)} |\n{'|---' * len(heading)}|")
    with tempfile.TemporaryDirectory() as folder:
        image = asked.image or street(Path(folder))
        for name in asked.names or detectors():
            with tempfile.TemporaryDirectory(dir=folder) as own:
                print(f"| {' | '.join(measured(name, image, Path(own), asked))} |", flush=True)


def detectors() -> list[str]:
    """Those of the papers: leyolo-composites and leyolo-street are leyolo-nano with other classes."""
    return [
        recipe.name
        for recipe in all_recipes()
        if isinstance(recipe.contract, ImageContract)
        and isinstance(recipe.contract.output, Boxes)
        and recipe.name not in ("leyolo-composites", "leyolo-street")
    ]


def street(folder: Path) -> Path:
    """What a camera gives: not a wallpaper of 12 megapixels, whose decoding would be all the time."""
    photographs = asset("photographs")
    if photographs is None:
        sys.exit("photographs are not fetched; run: python tests/fetch_assets.py photographs")
    path = folder / "street.jpg"
    Image.open(photographs / PHOTOGRAPH).convert("RGB").resize(PICTURE_PX).save(path, quality=90)
    return path


def measured(name: str, image: Path, folder: Path, asked: argparse.Namespace) -> list[str]:
    model, options = edgekit.load(name), SessionOptions(asked.threads)
    ours = edgekit.export(model, target="onnx", output=folder / "ours", verify=False)
    files = [
        load(plain_export(model, folder / "plain.onnx"), options), load(ours.model_file, options)
    ]  # fmt: skip
    values = {ours.inputs[0].name: model.example_inputs[0].numpy()}
    detectors = [opened(ours, file) for file in files]
    if asked.in_the_file:
        whole = edgekit.export(
            model, target="onnx", output=folder / "whole", verify=False,
            bake_preprocessing=True, nms=True,
        )  # fmt: skip
        detectors.append(opened(whole, load(whole.model_file, options)))

    def picture_to_boxes(detector: Detector) -> Callable[[], object]:
        return lambda: detector(read_picture(image), detector.thresholds_for())

    clock = time.process_time if asked.processor_time else time.perf_counter
    ends = medians([picture_to_boxes(detector) for detector in detectors], asked.rounds, clock)
    alone = medians([partial(file.run, values) for file in files], asked.rounds, clock)
    cells = [name, "x".join(map(str, model.inputs[0].shape[-2:]))]
    for plain, own in (ends[:2], alone):
        cells += [f"{plain:.1f}", f"{own:.1f}", f"{plain / own:.2f}"]
    return cells + [f"{end:.1f}" for end in ends[2:]]


def plain_export(model: Model, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.module, model.example_inputs, str(path), dynamo=True, opset_version=18,
            external_data=False, input_names=[model.inputs[0].name],
            output_names=[spec.name for spec in model.outputs], verbose=False,
        )  # fmt: skip
    return path


def opened(bundle: Bundle, file: OnnxRunnable) -> Detector:
    """The bundle's detector with another file behind it."""
    (image,) = bundle.inputs
    return replace(detector_of_bundle(bundle), run=lambda value: file.run({image.name: value}))


def medians(
    runs: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Milliseconds of each, taking turns, neither always first."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(-WARM_UP, rounds):
        pairs = list(zip(runs, times))
        for run, own in pairs[:: 1 if number % 2 else -1]:
            started = clock()
            run()
            if number >= 0:
                own.append((clock() - started) * 1000)
    return [statistics.median(own) for own in times]


if __name__ == "__main__":
    main()
