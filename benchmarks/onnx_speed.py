"""turbo-vaed-mini in onnxruntime: edgekit's file against a plain torch.onnx.export.

    python benchmarks/onnx_speed.py [--size 256x256] [--frames 5] [--rounds 25]

Same module, same runtime, same run, interleaved after warm-up, medians, at one and two threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import edgekit
from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.cli.output import parse_size


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="turbo-vaed-mini")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    height, width = parse_size(arguments.size)
    model = edgekit.load(arguments.model, height=height, width=width, frames=arguments.frames)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.module, model.example_inputs, str(plain), dynamo=True, opset_version=18,
                external_data=False, input_names=["latent"], output_names=["video"], verbose=False,
            )  # fmt: skip
        bundle = edgekit.export(model, target="onnx", output=Path(folder) / "edgekit.bundle")
        inputs = {"latent": model.example_inputs[0].numpy()}
        for threads in (1, 2):
            sessions = [load(file, SessionOptions(threads)) for file in (plain, bundle.model_file)]
            outputs = [session.run(inputs)["video"] for session in sessions]
            plain_s, ours_s = medians(sessions, inputs, arguments.rounds)
            difference = np.abs(outputs[0] - outputs[1]).max()
            print(
                f"{threads} thread(s): plain {plain_s * 1e3:.0f} ms, edgekit {ours_s * 1e3:.0f} ms, "
                f"{plain_s / ours_s:.2f} times as fast; outputs differ by at most {difference:.1e}",
                flush=True,
            )


def medians(
    sessions: list[OnnxRunnable], inputs: dict[str, np.ndarray], rounds: int
) -> tuple[float, float]:
    seconds: list[list[float]] = [[], []]
    for number in range(rounds):
        pairs = list(zip(sessions, seconds, strict=True))
        for session, times in pairs[:: 1 if number % 2 else -1]:  # neither is always the second
            started = time.perf_counter()
            session.run(inputs)
            times.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    main()
