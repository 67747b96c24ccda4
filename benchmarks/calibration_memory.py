"""Memory of `edgekit.quantize` with 10, 100 and 500 images, its repair included; with --stock onnxruntime's calibration.

    OMP_NUM_THREADS=1 python benchmarks/calibration_memory.py [NAME] [--size 224x224] [--counts 10 100 500] [--stock]

Each count runs in a process of its own over images of noise that are made as they are asked for. What is told
is how far the process's peak lies above what it held before: after a first quantisation with one image, which loads
what every one needs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import edgekit
from edgekit.cli.output import parse_size
from edgekit.model import Model

UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""Of the peak that the system tells."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("name", nargs="?", default="mobilenet-v2-0.35")
    parser.add_argument("--size", default="224x224")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 500])
    parser.add_argument(
        "--stock", action="store_true", help="onnxruntime.quantization's percentiles"
    )
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    height, width = parse_size(asked.size)
    if asked.child is not None:
        print(
            measured(
                edgekit.load(asked.name, height=height, width=width), asked.child, stock=asked.stock
            )
        )
        return
    kind = "onnxruntime.quantization" if asked.stock else "edgekit"
    print(
        f"{asked.name} at {asked.size}, {kind}\n| images | MiB above the start | seconds |\n|---|---|---|"
    )
    for count in asked.counts:
        given = [asked.name, "--size", asked.size, "--child", str(count)] + [
            "--stock"
        ] * asked.stock
        started = time.perf_counter()
        child = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True)
        if child.returncode:
            sys.exit(child.stderr)
        seconds = time.perf_counter() - started
        print(f"| {count} | {float(child.stdout) / 2**20:.1f} | {seconds:.0f} |", flush=True)


def measured(model: Model, count: int, *, stock: bool) -> int:
    """Bytes."""
    if stock:
        return measured_stock(model, count)
    edgekit.quantize(model, noise(model, 1))
    before = peak_bytes()
    edgekit.quantize(model, noise(model, count))
    return peak_bytes() - before


def measured_stock(model: Model, count: int) -> int:
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Noise(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, images: int) -> None:
            self.coming = noise(model, images)

        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[type-arg]
            image = next(self.coming, None)
            return None if image is None else {model.inputs[0].name: image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        bundle = edgekit.export(model, target="onnx", output=Path(folder) / "b", verify=False)
        calibrator = create_calibrator(
            bundle.model_file, augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
        )  # fmt: skip
        before = peak_bytes()
        calibrator.collect_data(Noise(count))
        return peak_bytes() - before


def noise(model: Model, count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(model.inputs[0].shape, generator=generator) for _ in range(count))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT_BYTES


if __name__ == "__main__":
    main()
