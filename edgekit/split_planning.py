"""Where to cut a network: every way to its answer side by side, and which pays on which link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import UsageError
from edgekit.exporting import Progress, silent
from edgekit.model import Model
from edgekit.parity.layer_times import LayerTimes, layer_times
from edgekit.prepared import captured_model
from edgekit.program.capture import without_torch_warnings
from edgekit.report import aligned
from edgekit.split.bundle import SplitBundle
from edgekit.split.candidates import (
    Candidate,
    Power,
    good_enough,
    pareto,
    reigns,
    span,
    to_json,
    verdict,
)
from edgekit.split.early_exit import EarlyExit
from edgekit.split.latency_profile import LatencyProfile
from edgekit.split_measuring import Measured, PlanOptions
from edgekit.split_pictures import Pictures
from edgekit.zoo.split.network import SplitNetwork


@dataclass(frozen=True)
class SplitPlan:
    model: str
    candidates: tuple[Candidate, ...]
    options: PlanOptions
    device: str
    slower: float
    times: LayerTimes
    power: Power | None
    notes: tuple[str, ...]

    @property
    def fit(self) -> list[Candidate]:
        return good_enough(self.candidates, self.options.within_points)

    def to_json(self) -> dict[str, Any]:
        link = self.options.link
        best = {item.name for item in pareto(self.candidates, link)}
        return {
            "model": self.model,
            "uplink_bits_per_second": link.bits_per_second,
            "rtt_ms": link.rtt_ms,
            "device": self.device,
            "times_slower_than_here": round(self.slower, 4),
            "measured_by": self.times.reference,
            "candidates": [
                {**to_json(item, link, self.power), "pareto": item.name in best} for item in self.candidates
            ],
            "fastest": [
                {
                    "name": reign.candidate.name,
                    "from_bits_per_second": reign.from_bits,
                    "to_bits_per_second": None if reign.to_bits == float("inf") else reign.to_bits,
                }
                for reign in reigns(self.fit, link.rtt_ms)
            ],
            "layers": [{"name": name, "ms": round(ms, 5)} for name, ms in self.times.by_layer.items()],
            "verdict": verdict(self.candidates, link, self.options.within_points),
            "notes": list(self.notes),
        }  # fmt: skip

    def table(self) -> str:
        link = self.options.link
        best = {item.name for item in pareto(self.candidates, link)}
        heading = (
            "way", "bytes", "p95", "before", "head", "code", "upload", "rtt", "decode", "tail", "exits",
            "total ms", "p95 ms", "right", *(("mJ",) if self.power else ()), "Pareto",
        )  # fmt: skip
        rows = [heading, *(self._row(item, item.name in best) for item in self.candidates)]
        wins = [
            f"{span(reign.from_bits, reign.to_bits)}: {reign.candidate.name}"
            for reign in reigns(self.fit, link.rtt_ms)
        ]
        said = verdict(self.candidates, link, self.options.within_points)
        return "\n".join([aligned(rows), "", "fastest " + "\nfastest ".join(wins), *self.notes, said])  # fmt: skip

    def _row(self, item: Candidate, is_best: bool) -> tuple[str, ...]:
        link = self.options.link
        sent = [f"{item.bytes_mean:.0f}", f"{item.bytes_p95:.0f}"] if item.sends else ["-", "-"]
        energy = [f"{item.energy_mj(link, self.power):.1f}"] if self.power else []
        parts = (
            item.before_ms, item.head_ms, item.code_ms, item.upload_ms(link),
            link.rtt_ms if item.sends else 0.0, item.decode_ms, item.tail_ms,
        )  # fmt: skip
        return (
            item.name, *sent, *(f"{part:.1f}" for part in parts),
            f"{item.exit_rate:.0%}" if item.exit_rate else "-",
            f"{item.total_ms(link):.1f}", f"{item.slow_ms(link):.1f}",
            "-" if item.accuracy is None else f"{item.accuracy:.1%}", *energy, "yes" if is_best else "",
        )  # fmt: skip


def split_plan(
    model: Model,
    pictures: Pictures | None,
    options: PlanOptions,
    device: LatencyProfile | None = None,
    heads: Sequence[SplitBundle] = (),
    exits: Sequence[EarlyExit] = (),
    progress: Progress = silent,
) -> SplitPlan:
    """Measure all ways. This machine stands for the server, and for the device by the profile's measure.

    Raises UsageError for a profile of another network, a head of another size or no ONNX file, and a model that
    takes something else than one image.
    """
    if len(model.example_inputs) != 1 or model.example_inputs[0].ndim != 4:
        raise UsageError(f"{model.name} takes something else than one image; a head takes one.")
    if device is not None:
        device.require_of(model.name, tuple(model.example_inputs[0].shape))
    progress("measure layers")
    with without_torch_warnings():
        program = captured_model(model).program
    image = model.example_inputs[0].numpy()
    times = layer_times(program, {program.inputs[0].name: image}, options.runs)
    measured = Measured(model, pictures, options, times, device)
    progress("measure pictures")
    found = [measured.local(), *measured.images()]
    if isinstance(model.module, SplitNetwork):
        progress("measure its bottleneck")
        found += measured.bottleneck(model.module)
    else:
        found += measured.cuts(progress)
    for head in heads:
        progress(f"measure {head.bundle.path.name}")
        found += measured.head(head)
    for early in exits:
        progress(f"measure the exit at {early.layer}")
        found += measured.with_exit(early, found)
    return SplitPlan(
        model.name, tuple(found), options, measured.device_name, measured.slower, times,
        device.power if device else None, measured.notes(),
    )  # fmt: skip
