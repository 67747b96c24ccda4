"""What makes good for weights of few bits: ranges alone, statistics, feedback, AdaQuant, by one calibration.

    python tests/fetch_assets.py efficientnet_lite0 labelled_photographs photographs nature
    OMP_NUM_THREADS=1 python benchmarks/weights_of_4_bits.py [efficientnet-lite0] [--bits 4] [--steps 200]

Activations have 8 bits in all rows but for --float-activations. Against the float model, on photographs that were
not calibrated with; seconds are of one processor, for the repair alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from bit_allocation import in_codes, inputs_of

from edgekit.compress.output_error import Judge, outputs_of
from edgekit.compress.quantise import decide, prepare, ready_program
from edgekit.compress.quantise_options import QuantiseOptions

ROWS = {
    "min-max": QuantiseOptions(repair="nothing", weight_range="largest"),
    "ranges of least error": QuantiseOptions(repair="nothing"),
    "statistics": QuantiseOptions(repair="statistics"),
    "feedback": QuantiseOptions(repair="feedback"),
    "adaquant": QuantiseOptions(repair="adaquant"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("name", nargs="?", default="efficientnet-lite0")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--judge", type=int, default=40)
    parser.add_argument("--float-activations", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, calibrating, judging = inputs_of(asked.name, None, asked.calibrate)
    judging = [judging[index] for index in range(min(asked.judge, len(judging)))]
    judge = Judge.of(model)
    wanted = [outputs_of(model(given)) for given in judging]
    program = ready_program(model)
    heading = ("repair", "same class", judge.word, "PSNR dB", "seconds")
    print(
        f"{asked.name}, {asked.bits} bits, calibrated with {asked.calibrate}, {len(judging)} inputs"
    )
    print(f"| {' | '.join(heading)} |\n{'|---' * len(heading)}|")
    for label in asked.rows:
        options = replace(
            ROWS[label], weight_bits=asked.bits, steps=asked.steps, repair_inputs=asked.calibrate,
            activation_bits=None if asked.float_activations else 8,
            activation_range="largest" if label == "min-max" else "error",
        )  # fmt: skip
        prepared = prepare(program, calibrating, options)
        started = time.process_time()
        decided = decide(prepared, options)
        seconds = time.process_time() - started
        got = [in_codes(decided, given) for given in judging]
        same = sum(int(a[0].argmax() == b[0].argmax()) for a, b in zip(wanted, got)) / len(judging)
        error = judge(wanted, got)
        row = (
            label,
            f"{same:.1%}",
            f"{error.meaning:.4f}",
            f"{error.psnr_db:.1f}",
            f"{seconds:.0f}",
        )
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
