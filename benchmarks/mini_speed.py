"""turbo-vaed-mini and its teacher's decoder in onnxruntime: milliseconds a frame, by turns.

    python benchmarks/mini_speed.py --teacher TAEF2_FOLDER [--size 512] [--frames 2] [--rounds 7] [--record]

Both are exported by edgekit and run by one thread, in one process, one after the other, in turns that change
direction; medians after one warm-up. Processor time, which other programs disturb less: on a quiet machine one
thread's is the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import edgekit
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import SessionOptions
from edgekit.distillation import taef2
from edgekit.measured import Column, Measurement, record, versions_here
from edgekit.recipe import find_recipe

COMMAND = "python benchmarks/mini_speed.py --teacher TAEF2_FOLDER"


def medians_ms(
    students: Mapping[str, nn.Module],
    teacher: nn.Module,
    rounds: int,
    size_px: int = 512,
    frames: int = 2,
) -> dict[str, float]:
    """Milliseconds a frame by name; the teacher's is under "teacher"."""
    side = size_px // 8
    latents = torch.randn(1, 32, frames, side, side)
    examples = {name: (module.eval(), latents) for name, module in students.items()}
    examples["teacher"] = (teacher, latents[0].transpose(0, 1).contiguous())
    seconds: dict[str, list[float]] = {name: [] for name in examples}
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for number, (name, (module, example)) in enumerate(examples.items()):
            bundle = edgekit.export(
                module, example, target="onnx", output=Path(folder) / f"{number}.bundle", verify=False
            )  # fmt: skip
            sessions[name] = (load(bundle.model_file, SessionOptions(1)), example.numpy())
        for number in range(rounds + 1):
            for name in list(sessions)[:: 1 if number % 2 else -1]:
                session, example = sessions[name]
                started = time.process_time()
                session.run({next(iter(session.input_shapes)): example})
                if number:
                    seconds[name].append(time.process_time() - started)
    return {name: statistics.median(times) / frames * 1e3 for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it for the model's card")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    teacher = taef2.load(taef2.decoder(), asked.teacher / "taef2_decoder.pth")
    student = edgekit.load("turbo-vaed-mini").module
    found = medians_ms({"student": student}, teacher, asked.rounds, asked.size, asked.frames)
    print(
        f"a frame at {asked.size}x{asked.size}, 1 thread: teacher {found['teacher']:.0f} ms, student "
        f"{found['student']:.0f} ms, {found['teacher'] / found['student']:.2f} times as fast"
    )
    if asked.record:
        size = f"{asked.size}x{asked.size}"
        column = Column(f"onnxruntime, one thread, a frame at {size}", "ms")
        rows = {name: [found[name]] for name in ("student", "teacher")}
        command = f"{COMMAND} --size {asked.size} --rounds {asked.rounds}"
        measured = Measurement(command, "decoder", (column,), rows, versions_here())
        record(find_recipe("turbo-vaed-mini").path, "speed", measured)


if __name__ == "__main__":
    main()
