"""Bits for each layer, so that a file is as small or as fast as asked, and as near to the float model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.backends.registry import backend_for
from edgekit.bit_latency import layer_times, milliseconds
from edgekit.bundle import Bundle, require_free
from edgekit.compress.bit_budget import Budget, Cost
from edgekit.compress.bit_programme import Allocation, Choice, Limits, allocate
from edgekit.compress.calibration import Inputs
from edgekit.compress.output_error import Judge, OutputError
from edgekit.compress.quantise import prepare, quantised, ready_program
from edgekit.compress.quantise_options import QuantiseOptions
from edgekit.compress.sensitivity import LayerSensitivity, sensitivity
from edgekit.errors import UsageError
from edgekit.exporting import ExportOptions, Progress, export_model, silent
from edgekit.model import Model
from edgekit.program.capture import without_torch_warnings
from edgekit.program.program import Program
from edgekit.quantising import Quality, Quantisation, model_bytes, quality_of
from edgekit.report import aligned
from edgekit.target import Target

ROUNDS = 4
"""Of solving and measuring: what was measured corrects what the next one expects."""
NEAR_DB = 1.0
"""Above the floor: near enough to it to stop."""
NEAR_SHARE = 0.02
"""Below a cost's limit."""


@dataclass(frozen=True)
class LayerBits:
    """What one layer got."""

    name: str
    choice: Choice
    error: OutputError
    """Of its weight's codes alone."""
    bytes: int
    """Of its weight in the file."""


@dataclass(frozen=True)
class Chosen:
    layers: tuple[LayerBits, ...]
    of: Cost
    cost: float
    """Measured."""
    expected: OutputError
    """The sum over layers and values, which the programme knew."""
    rounds: int
    meaning: str
    """What the second metric is."""

    def to_json(self) -> dict[str, Any]:
        return {
            "of": self.of,
            "cost": self.cost,
            "rounds": self.rounds,
            "expected_psnr_db": self.expected.psnr_db,
            "second_metric": self.meaning,
            "layers": [
                {"name": layer.name, "bits": layer.choice.bits, "integer": layer.choice.integer,
                 "noise": layer.error.noise, "meaning": layer.error.meaning, "bytes": layer.bytes}
                for layer in self.layers
            ],
        }  # fmt: skip

    def table(self) -> str:
        rows = [("layer", "bits", "activations", "alone, dB", self.meaning, "bytes")]
        for layer in self.layers:
            choice = layer.choice
            bits = "float" if choice.bits is None else str(choice.bits)
            decibels = "" if choice.bits is None else f"{layer.error.psnr_db:.1f}"
            meaning = "" if choice.bits is None else f"{layer.error.meaning:.2g}"
            kind = "codes" if choice.integer else "floats"
            rows.append((layer.name, bits, kind, decibels, meaning, str(layer.bytes)))
        return aligned(rows)


def export_within(
    model: Model,
    target: Target,
    folder: Path,
    data: tuple[Iterable[Inputs], Sequence[Inputs]],
    options: QuantiseOptions,
    export: ExportOptions,
    budget: Budget,
    progress: Progress = silent,
) -> tuple[Quantisation, Chosen]:
    """As `export_quantised`, with the bits that `budget` asks for.

    Raises UsageError where nothing keeps within it, which says what comes nearest, and what `quantize` and
    `export_model` do.
    """
    require_free(folder, force=export.force)
    backend = backend_for(target.format)
    if budget.of == "latency" and target.format != "onnx":
        raise UsageError(
            "Latency is measured in onnxruntime; give a target of ONNX files, or a size."
        )
    export = replace(export, packed=export.packed or (backend.packs and budget.of == "size"))
    with without_torch_warnings():
        search = Search(model, target, data, options, budget, progress)
        found = search.run(export)
    progress("export")
    bundle, report = export_model(found.model, target, folder, export, progress)
    quality = quality_of(bundle, model, data[1])
    return Quantisation(bundle, report, quality, found.model), search.chosen(found, bundle)


@dataclass(frozen=True)
class Tried:
    allocation: Allocation
    model: Model
    cost: float
    quality: Quality
    rounds: int

    @property
    def psnr_db(self) -> float:
        return min(output.psnr_db for output in self.quality.outputs)


class Search:
    """Solve, quantise, measure, and solve again with what was learnt, until a file keeps within the budget."""

    def __init__(
        self,
        model: Model,
        target: Target,
        data: tuple[Iterable[Inputs], Sequence[Inputs]],
        options: QuantiseOptions,
        budget: Budget,
        progress: Progress = silent,
    ) -> None:
        self.model, self.target, self.budget, self.options = model, target, budget, options
        self.calibrating, self.judging = data
        self.progress = progress
        self.judge = Judge.of(model)
        self.bits = _bits(target, options, budget)
        progress("calibrate")
        self.program = ready_program(model)
        prepared = prepare(self.program, self.calibrating, options)
        self.found = sensitivity(
            prepared, self.bits, self.judge, options, budget.measured_on, progress
        )
        self.all_layers = {layer.name: layer.macs for layer in prepared.of_layers}
        self.choices = self._by_size() if budget.of == "size" else self._by_latency(self.program)

    def run(self, export: ExportOptions) -> Tried:
        offset, factor = 0.0, 1.0
        best: Tried | None = None
        nearest: Tried | None = None
        for number in range(1, ROUNDS + 1):
            self.progress(f"allocate bits ({number})")
            allocation = self.solve(offset, factor)
            if allocation is None:
                break
            nearest = tried = self.tried(allocation, export, number)
            if self._fits(tried) and (best is None or self._worth(tried) > self._worth(best)):
                best = tried
            if self._fits(tried) and self._is_near(tried):
                break
            offset = tried.cost - allocation.cost
            factor = 10 ** (-tried.psnr_db / 10) / max(allocation.error.noise, 1e-30)
        if best is None:
            raise UsageError(self._refusal(nearest))
        return best

    def solve(self, offset: float, factor: float) -> Allocation | None:
        """With a file that costs `offset` more than its layers, and `factor` of the error expected."""
        budget = self.budget
        noise = None if budget.most_noise is None else budget.most_noise / factor
        most = None if budget.most is None else budget.most - offset
        share = budget.float_share if budget.of == "size" and self.found.values else 1.0
        return allocate(self.found, self.choices, Limits(noise, most, share))

    def tried(self, allocation: Allocation, export: ExportOptions, number: int) -> Tried:
        coded = self.quantised(allocation)
        with TemporaryDirectory(prefix="edgekit-bits-") as folder:
            options = replace(export, verify=False, simplify=False, plan=None)
            bundle = export_model(coded, self.target, Path(folder) / "bundle", options)[0]
            cost = model_bytes(bundle) if self.budget.of == "size" else milliseconds(bundle)
            return Tried(
                allocation, coded, cost, quality_of(bundle, self.model, self.judging), number
            )

    def quantised(self, allocation: Allocation) -> Model:
        given = allocation.choices
        bits = {name: choice.bits for name, choice in given.items() if choice.bits is not None}
        floats = tuple(name for name, choice in given.items() if choice.bits is None)
        alone = [
            name for name, choice in given.items() if choice.bits is not None and not choice.integer
        ]
        options = replace(
            self.options, layer_bits=bits, float_layers=(*self.options.float_layers, *floats),
            weights_alone=tuple(alone),
        )  # fmt: skip
        return quantised(self.model, self.program, self.calibrating, options)

    def chosen(self, tried: Tried, bundle: Bundle) -> Chosen:
        cost = model_bytes(bundle) if self.budget.of == "size" else tried.cost
        rows = tuple(self._row(layer, tried) for layer in self.found.layers)
        expected = tried.allocation.error
        return Chosen(rows, self.budget.of, cost, expected, tried.rounds, self.judge.word)

    def _row(self, layer: LayerSensitivity, tried: Tried) -> LayerBits:
        choice = tried.allocation.choices[layer.name]
        error = layer.errors[choice.bits] if choice.bits is not None else OutputError(0.0, 0.0)
        return LayerBits(layer.name, choice, error, self._bytes(layer, choice.bits))

    def _bytes(self, layer: LayerSensitivity, bits: int | None) -> int:
        count = math.prod(layer.shape)
        if bits is None:
            return 4 * count
        scales = 4 * layer.channels
        packed = self.budget.of == "size" or not backend_for(self.target.format).packs
        return backend_for(self.target.format).code_bytes(count, bits if packed else 8) + scales

    def _by_size(self) -> Mapping[str, list[Choice]]:
        return {
            layer.name: [
                Choice(None, False, self._bytes(layer, None)),
                *(
                    Choice(bits, integer, self._bytes(layer, bits))
                    for bits in self.bits
                    for integer in ((True, False) if layer.values else (False,))
                ),
            ]
            for layer in self.found.layers
        }

    def _by_latency(self, program: Program) -> Mapping[str, list[Choice]]:
        self.progress("time each layer")
        coded = quantised(self.model, program, self.calibrating, self.options)
        timed = [layer.name for layer in self.found.layers]
        times = layer_times(self.model, coded, self.target, self.all_layers, timed)
        bits = max(self.bits)
        return {
            layer.name: [
                Choice(None, False, times.floats[layer.name]),
                *([Choice(bits, True, times.codes[layer.name])] if layer.values else []),
            ]
            for layer in self.found.layers
        }

    def _fits(self, tried: Tried) -> bool:
        floor, most = self.budget.min_psnr_db, self.budget.most
        return (floor is None or tried.psnr_db >= floor) and (most is None or tried.cost <= most)

    def _worth(self, tried: Tried) -> float:
        return tried.psnr_db if self.budget.min_psnr_db is None else -tried.cost

    def _is_near(self, tried: Tried) -> bool:
        floor, most = self.budget.min_psnr_db, self.budget.most
        if floor is not None:
            return tried.psnr_db - floor < NEAR_DB
        assert most is not None
        return tried.cost > (1 - NEAR_SHARE) * most

    def _refusal(self, nearest: Tried | None) -> str:
        budget = self.budget
        most = "" if budget.most is None else f"{budget.of} of {_amount(budget.of, budget.most)}"
        floor = "" if budget.min_psnr_db is None else f"floor of {budget.min_psnr_db:g} dB"
        asked = " and a ".join(filter(None, (most, floor)))
        came = ""
        if nearest is not None:
            came = f"; what was tried last has {nearest.psnr_db:.1f} dB at {_amount(budget.of, nearest.cost)}"
        return f"No bits of the layers meet a {asked}{came}. Ask for less, or offer more bits."


def _bits(target: Target, options: QuantiseOptions, budget: Budget) -> tuple[int, ...]:
    """Raises UsageError for bits that the target's files do not hold in less than more would take."""
    known = backend_for(target.format).code_bits(target)
    if budget.of == "latency":
        return (options.weight_bits,)
    if wrong := set(budget.bits) - set(known):
        raise UsageError(
            f"Weights of {min(wrong)} bits are no smaller than others in files of '{target.name}', which have "
            f"{', '.join(map(str, known))}."
        )
    return budget.bits or tuple(bits for bits in known if 2 < bits <= options.weight_bits) or known


def _amount(of: Cost, cost: float) -> str:
    return f"{cost / 1e6:.3f} MB" if of == "size" else f"{cost:.2f} ms"
