"""Bits for each layer against the same bits for all: bytes and quality, at the sizes of uniform weights.

    python tests/fetch_assets.py efficientnet_lite0 labelled_photographs photographs nature
    OMP_NUM_THREADS=1 python benchmarks/bit_allocation.py turbo-vaed-mini --size 64x64
    OMP_NUM_THREADS=1 python benchmarks/bit_allocation.py efficientnet-lite0

Each row is a uniform width and what the integer programme makes of as many bytes, both with 8-bit activations, the
same ranges and the same repair. Bytes are of weights as packed ONNX files hold them; quality is that of the graph
in codes, which files are verified against, on inputs that nothing was measured on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from quantise import FRAMES, case
from torch import Tensor
from torch.fx import Interpreter, Node

import edgekit
from edgekit.backends.registry import backend_for
from edgekit.cli.output import parse_size
from edgekit.compress.bit_programme import Choice, Limits, allocate
from edgekit.compress.decided import Decided
from edgekit.compress.output_error import Judge, OutputError, outputs_of
from edgekit.compress.quantise import decide, prepare, ready_program
from edgekit.compress.quantise_options import QuantiseOptions, Repair
from edgekit.compress.sensitivity import LayerSensitivity, sensitivity
from edgekit.demo import read_sample
from edgekit.model import Model


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "name", choices=("turbo-vaed-mini", "efficientnet-lite0", "leyolo-composites")
    )
    parser.add_argument("--size", help="Of the decoder's video: a corner of its sample.")
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4, 5, 6, 7])
    parser.add_argument("--repair", default="statistics")
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--judge", type=int, default=40)
    parser.add_argument("--measured-on", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, calibrating, judging = inputs_of(asked.name, asked.size, asked.calibrate)
    judging = [judging[index] for index in range(min(asked.judge, len(judging)))]
    repair: Repair = asked.repair
    options = QuantiseOptions(weight_bits=max(asked.bits), repair=repair)
    prepared = prepare(ready_program(model), calibrating, options)
    judge = Judge.of(model)
    found = sensitivity(prepared, asked.bits, judge, options, asked.measured_on, lambda _: None)
    wanted = [outputs_of(model(given)) for given in judging]

    def measured(bits: Mapping[str, int]) -> tuple[OutputError, float]:
        decided = decide(prepared, replace(options, layer_bits=bits))
        got = [in_codes(decided, given) for given in judging]
        same = sum(int(a[0].argmax() == b[0].argmax()) for a, b in zip(wanted, got))
        return judge(wanted, got), same / len(judging)

    classifies = judge.word == "divergence of classes"
    print(f"{asked.name}: {len(judging)} inputs, {len(found.layers)} layers, repair {repair}")
    heading = ["bits", "kB", "PSNR dB", judge.word] + ["same class"] * classifies
    print(f"| {' | '.join(heading)} |\n{'|---' * len(heading)}|")
    for width in asked.bits:
        uniform = {layer.name: width for layer in found.layers}
        most = sum(stored(layer, width) for layer in found.layers)
        choices = {
            layer.name: [
                Choice(bits, bool(layer.values), stored(layer, bits)) for bits in asked.bits
            ]
            for layer in found.layers
        }
        allocation = allocate(found, choices, Limits(cost=most))
        assert allocation is not None
        mixed = {name: choice.bits or 0 for name, choice in allocation.choices.items()}
        spread = f"{min(mixed.values())} to {max(mixed.values())}"
        for label, bits, cost in (
            (str(width), uniform, float(most)), (spread, mixed, allocation.cost),
        ):  # fmt: skip
            error, same = measured(bits)
            row = [label, f"{cost / 1000:.1f}", f"{error.psnr_db:.1f}", f"{error.meaning:.4f}"]
            print(f"| {' | '.join(row + [f'{same:.1%}'] * classifies)} |", flush=True)


def stored(layer: LayerSensitivity, bits: int) -> int:
    count = int(torch.Size(layer.shape).numel())
    return backend_for("onnx").code_bytes(count, bits)


def inputs_of(name: str, size: str | None, calibrated: int) -> tuple[Model, Any, Sequence[Tensor]]:
    if size is None or name != "turbo-vaed-mini":
        given = case(name, calibrated)
        return given.model, given.calibrating, given.judging
    height, width = parse_size(size)
    model = edgekit.load(name, height=height, width=width, frames=FRAMES)
    sample = torch.from_numpy(read_sample()[0])
    sides = model.example_inputs[0].shape[3:]
    corner = sample[..., : sides[0], : sides[1]].contiguous()
    chunks = list(corner.split(FRAMES, dim=2))
    return model, chunks[::2][:calibrated], chunks[1::2]


class Codes(Interpreter):
    """A graph with decided codes, without writing them into it."""

    def __init__(self, decided: Decided) -> None:
        super().__init__(decided.edit.module)
        self.decided = decided
        self.weights = {node: codes.weight.values() for node, codes in decided.codes.items()}

    def run_node(self, n: Node) -> Any:
        if n in self.weights:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            read = [args[0], self.weights[n], self.decided.codes[n].bias, *args[3:]]
            assert callable(n.target)
            value = n.target(*read, **kwargs)
        else:
            value = super().run_node(n)
        affine = self.decided.values.get(n)
        return value if affine is None else affine.rounded(value)


def in_codes(decided: Decided, given: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return outputs_of(Codes(decided).run(given))


if __name__ == "__main__":
    main()
