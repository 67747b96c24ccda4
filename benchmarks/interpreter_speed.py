"""The Core ML reference interpreter against eager torch on the same input, interleaved medians.

python benchmarks/interpreter_speed.py [--model turbo-vaed-ltx] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import edgekit
from edgekit.backends.coreml.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="turbo-vaed-ltx")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    model = edgekit.load(arguments.model, height=128, width=192, frames=9)
    (latent,) = model.example_inputs
    for precision in ("fp32", "fp16"):
        with tempfile.TemporaryDirectory() as folder:
            bundle = edgekit.export(
                model, target="coreml", precision=precision, output=Path(folder) / "b", verify=False
            )
            program = load(bundle.model_file)
            inputs = {"latent": latent.numpy()}
            for threads in (1, 2):
                torch.set_num_threads(threads)
                eager, file = interleaved(
                    lambda: model(latent),
                    lambda program=program, inputs=inputs: program.run(inputs),
                    arguments.rounds,
                )
                print(
                    f"{precision}, {threads} thread(s): eager {eager * 1e3:.0f} ms, interpreter "
                    f"{file * 1e3:.0f} ms, {file / eager:.2f} times",
                    flush=True,
                )


def interleaved(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median seconds of each after one warm-up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in (first, second):
        call()
    for _ in range(rounds):
        for times, call in zip(seconds, (first, second), strict=True):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    main()
