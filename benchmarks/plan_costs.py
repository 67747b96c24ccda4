"""What copies and runs cost beside convolutions: the constants of the search for plans.

    python benchmarks/plan_costs.py [--threads 1]

A convolution of 16 to 16 channels gives the rate of multiply-accumulates; against it stand the copies
of a window in a host loop and a run of a model that computes nothing. Medians of interleaved rounds, in
CPU time, which other processes disturb less. Beside each: the constant that the search uses.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SERVING, SessionOptions
from edgekit.backends.onnx.write import OnnxOptions, write
from edgekit.plan.arrivals import COPY_MACS_PER_BYTE, RUN_MACS
from edgekit.plan.runner import at, part_of
from edgekit.program.capture import capture

SIZE, CHANNELS = 256, 16
Task = Callable[[], object]


class Convolutions(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def file_of(module: nn.Module, x: Tensor, folder: Path, threads: int) -> Task:
    program = capture(module.eval(), (x,)).program
    path = folder / f"{type(module).__name__}{len(list(folder.iterdir()))}.onnx"
    write(program, path, OnnxOptions())
    file = load(path, SessionOptions(threads, SERVING))
    inputs: dict[str, Any] = {program.inputs[0].name: x.numpy()}
    return lambda: file.run(inputs)


def copies() -> Task:
    """A window's input and output, out of whole arrays and into them."""
    whole = np.ones((1, CHANNELS, 4 * SIZE, 4 * SIZE), dtype=np.float32)
    box = ((0, 1), (0, CHANNELS), (SIZE, 2 * SIZE), (SIZE, 2 * SIZE))

    def copy() -> None:
        whole[at(box)] = part_of(whole, box)

    return copy


def medians(tasks: dict[str, Task], rounds: int) -> dict[str, float]:
    """CPU seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 2):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            if number > 1:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=101)
    arguments = parser.parse_args()
    x = torch.randn(1, CHANNELS, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = medians(
            {
                "one": file_of(Convolutions(1), x, folder, arguments.threads),
                "four": file_of(Convolutions(4), x, folder, arguments.threads),
                "run": file_of(Nothing(), torch.zeros(1, 16, 8, 8), folder, arguments.threads),
                "copies": copies(),
            },
            arguments.rounds,
        )
    elements = CHANNELS * SIZE * SIZE
    convolution = (found["four"] - found["one"]) / 3
    rate = elements * CHANNELS * 9 / convolution
    # Input and output in float32, each read and written once.
    byte = found["copies"] / (2 * 4 * elements)
    print(f"convolutions: {rate / 1e9:.1f} G multiply-accumulates a second")
    for label, value, constant in (
        ("a byte that a window copies", byte * rate, COPY_MACS_PER_BYTE),
        ("one run of a model", found["run"] * rate, RUN_MACS),
    ):
        print(f"{label}: worth {value:.3g} of them; the search counts {constant:.3g}")


if __name__ == "__main__":
    main()
