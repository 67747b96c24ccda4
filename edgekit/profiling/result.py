"""A profile: what was measured, on what, as JSON and as a table for the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.bundle import Bundle
from edgekit.plan.choose import in_units
from edgekit.profiling.end_to_end import EndToEnd
from edgekit.profiling.footprint import Footprint
from edgekit.profiling.golden import Golden
from edgekit.profiling.kernels import ALIGNMENT, Kernel, Kernels
from edgekit.profiling.machine import Condition, Machine
from edgekit.profiling.opening import Opening
from edgekit.profiling.providers import Predictions
from edgekit.profiling.roofline import Roofline
from edgekit.profiling.timing import Timing
from edgekit.report import aligned
from edgekit.split.bundle import SplitFacts

SCHEMA = 1
SHOWN_LAYERS = 12
STEADY_DRIFT = 0.05
NAMED_GAP = 0.1
WARMER_CELSIUS = 5.0
"""What a processor's own sensor may differ by from one moment to the next is less."""


@dataclass(frozen=True)
class Head:
    """Of a split bundle: all that is measured but pictures' steps."""

    layer: str
    """That it ends with, or "bottleneck"."""

    @classmethod
    def of(cls, bundle: Bundle) -> Head | None:
        split = SplitFacts.of(bundle)
        return cls(split.layer) if split is not None else None


@dataclass(frozen=True)
class Profile:
    bundle: str
    files: dict[str, str]
    """SHA-256 by name: what was measured."""
    disk_bytes: int
    threads: int
    machine: Machine
    before: Condition
    after: Condition
    timing: Timing
    throughput: dict[int, float]
    """Runs a second, by callers at once."""
    opening: Opening | None
    kernels: tuple[Kernels, ...]
    roofline: Roofline | None
    footprint: Footprint
    end_to_end: EndToEnd | None = None
    """Where a picture was given."""
    providers: Predictions | None = None
    """Of a bundle of one file that is at hand."""
    golden: Golden | None = None
    """Of a device, which proves first that it computes what the model computes, and of a head."""
    head: Head | None = None
    """None: the whole network was measured."""
    incomplete: str = ""
    """Why the measurement broke off, as a clause; what came later is missing."""

    @property
    def summed_ms(self) -> float:
        """Of all kernels, over all runs of their files that one result needs."""
        return sum(file.runs * file.summed_ms for file in self.kernels)

    @property
    def gap(self) -> float | None:
        """Of the end-to-end time, what no kernel takes: the runtime itself, and a plan's copies."""
        if not self.kernels:
            return None
        return 1 - self.summed_ms / self.timing.latency.median

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "complete": not self.incomplete,
            "bundle": self.bundle,
            "files": self.files,
            "split": asdict(self.head) if self.head else None,
            "disk_bytes": self.disk_bytes,
            "device": {
                **self.machine.to_json(),
                "threads": self.threads,
                "before": self.before.to_json(),
                "after": self.after.to_json(),
            },
            "latency_ms": self.timing.latency.to_json(),
            "warm_up": {"runs": self.timing.warm_up.runs, "is_steady": self.timing.warm_up.is_steady,
                        "first_ms": self.timing.warm_up.first_ms},
            "throughput_per_s": {str(callers): rate for callers, rate in self.throughput.items()},
            "golden": self.golden.to_json() if self.golden else None,
            "load_ms": self.opening.to_json() if self.opening else None,
            "memory_bytes": self.footprint.to_json(),
            "roofline": self.roofline.to_json() if self.roofline else None,
            "layers": [file.to_json(self.summed_ms) for file in self.kernels],
            "kernels_ms": self.summed_ms,
            "gap": self.gap,
            "providers": self.providers.to_json() if self.providers else None,
            "end_to_end": self.end_to_end.to_json() if self.end_to_end else None,
        }  # fmt: skip

    def text(self) -> str:
        return "\n\n".join(
            filter(
                None,
                (
                    self._head(),
                    self._layers(),
                    self._operators(),
                    self._memory(),
                    self._picture(),
                    self._providers(),
                ),
            )
        )

    def facts(self) -> list[tuple[str, str]]:
        """What stands at the head of a report, by name."""
        latency, rates = self.timing.latency, self.throughput.items()
        rows = [
            ("device", self.machine.sentence()),
            ("network", self._head_told()),
            ("golden", self.golden.sentence() if self.golden else ""),
            ("latency", f"{latency.median:.2f} ms median ({latency.interval.low:.2f} to {latency.interval.high:.2f} at 95 %), "
                        f"p90 {latency.percentile(90):.2f}, p99 {latency.percentile(99):.2f}, min {min(latency.samples):.2f}; "
                        f"{len(latency.samples)} runs on {f'{self.threads} thread(s)' if self.threads else 'threads of its own choice'}"),
            ("throughput", ", ".join(f"{rate:.1f}/s with {n} caller{'s' * (n > 1)}" for n, rate in rates)),
            ("from disk", self._opening_told()),
            ("kernels", self._kernels_told()),
            ("roofline", self._ceilings_told()),
        ]  # fmt: skip
        return [(name, value) for name, value in rows if value]

    def _head(self) -> str:
        lines = [f"{name:<11} {value}" for name, value in self.facts()]
        return "\n".join([*lines, *self.remarks()])

    def _head_told(self) -> str:
        if self.head is None:
            return ""
        told = f"the head, which ends with {self.head.layer}"
        if self.end_to_end is not None:
            return told
        return f"{told}; its tails run on a server"

    def _opening_told(self) -> str:
        if self.opening is None:
            return ""
        opening, kind = self.opening, "cold" if self.opening.is_cold else "first"
        return (
            f"{opening.cold_ms:.0f} ms {kind}, {opening.warm_ms:.0f} ms warm, first run "
            f"{opening.first_run_ms:.1f} ms; {in_units(self.disk_bytes)} of files"
        )

    def _kernels_told(self) -> str:
        if self.gap is None:
            return ""
        told = f"{self.summed_ms:.2f} ms in all"
        if self.gap < 0:  # of kernels of microseconds
            return f"{told}, {-self.gap:.1%} more than the latency: so much the profiler itself costs here"
        return f"{told}; {self.gap:.1%} of the latency is none of theirs"

    def _ceilings_told(self) -> str:
        if self.roofline is None:
            return ""
        return f"{self.roofline.gmacs_per_s:.1f} GMAC/s, {self.roofline.gbytes_per_s:.1f} GB/s measured with the same threads"

    def remarks(self) -> list[str]:
        """What makes the figures less than they seem."""
        latency, said = self.timing.latency, []
        if self.incomplete:
            said.append(f"incomplete: {self.incomplete}")
        if self.golden and not self.golden.passed:
            said.append(
                "the device computes something else than the model: its times are of no use"
            )
        if not self.timing.warm_up.is_steady:
            said.append(
                f"not steady after {self.timing.warm_up.runs} runs of warm-up: other work, or a machine that changes its speed"
            )
        if abs(latency.drift) > STEADY_DRIFT:
            said.append(
                f"the last quarter of the runs is {abs(latency.drift):.0%} {'slower' if latency.drift > 0 else 'faster'} than the first"
            )
        said += self._conditions()
        load = self.before.load
        if load is not None and load > self.machine.cpus:
            said.append(
                f"{load:.1f} processes wanted {self.machine.cpus} CPUs when this began: the times are not the model's alone"
            )
            if self.gap is not None and self.gap > NAMED_GAP:
                said.append(
                    "what interrupts a run is in the latency and in no kernel's median: hence their gap"
                )
        return [f"note        {sentence}" for sentence in said]

    def _conditions(self) -> list[str]:
        """What changed at the machine while latency was measured, where it tells."""
        was, now = self.before, self.after
        said = []
        if was.frequency_mhz and now.frequency_mhz:
            change = now.frequency_mhz / was.frequency_mhz - 1
            if abs(change) > STEADY_DRIFT:
                said.append(
                    f"the processor's clock went from {was.frequency_mhz:.0f} to {now.frequency_mhz:.0f} MHz"
                )
        warm, hot = was.temperature_celsius, now.temperature_celsius
        if warm is not None and hot is not None and hot - warm > WARMER_CELSIUS:
            said.append(f"the machine went from {warm:.0f} to {hot:.0f} degrees Celsius")
        return said

    def _layers(self) -> str:
        if not self.kernels:
            return ""
        counted = [
            (file.runs * kernel.p50_ms, kernel, file.runs)
            for file in self.kernels
            for kernel in file.kernels
        ]
        counted.sort(key=lambda item: -item[0])
        rows: list[tuple[str, ...]] = [
            ("layer", "operator", "output", "ms", "share", "GMAC/s", "bound", "live")
        ]
        rows += [
            _row(kernel, runs, taken / max(1e-9, self.summed_ms))
            for taken, kernel, runs in counted[:SHOWN_LAYERS]
        ]
        left = len(counted) - SHOWN_LAYERS
        more = f"; {left} more in --json" if left > 0 else ""
        return f"{aligned(rows)}\n* channels that fill no blocks of {ALIGNMENT}{more}"

    def _operators(self) -> str:
        if not self.kernels:
            return ""
        taken: dict[str, float] = {}
        for file in self.kernels:
            for kernel in file.kernels:
                taken[kernel.operator] = taken.get(kernel.operator, 0.0) + file.runs * kernel.p50_ms
        shares = sorted(taken.items(), key=lambda item: -item[1])
        return "by operator: " + ", ".join(
            f"{name} {ms / max(1e-9, self.summed_ms):.0%}" for name, ms in shares[:8]
        )

    def _picture(self) -> str:
        return self.end_to_end.text() if self.end_to_end else ""

    def _providers(self) -> str:
        return self.providers.text() if self.providers else ""

    def _memory(self) -> str:
        found = self.footprint
        rows: list[tuple[str, ...]] = [("memory", "load peak", "loaded", "run peak", "kept")]
        rows += [
            (one.memory, *(in_units(count) for count in (one.load_peak_bytes, one.loaded_bytes, one.run_peak_bytes, one.kept_bytes)))
            for one in found.process
        ]  # fmt: skip
        lines = [aligned(rows)] if found.process else []
        if found.reason:
            lines.append(f"not measured: {found.reason}")
        if found.runtime_peak_bytes is not None:
            lines.append(f"in use by onnxruntime at most {in_units(found.runtime_peak_bytes)}")
        if found.static_peak_bytes is not None:
            lines.append(f"predicted by the plan {in_units(found.static_peak_bytes)}")
        return "\n".join(lines)


def _row(kernel: Kernel, runs: int, share: float) -> tuple[str, ...]:
    shape = "x".join(map(str, kernel.outputs[0])) if kernel.outputs else ""
    return (
        (kernel.module or kernel.name) + (f" ({runs} times)" if runs > 1 else ""),
        kernel.operator,
        shape + ("" if kernel.is_aligned else " *"),
        f"{runs * kernel.p50_ms:.3f}",
        f"{share:.1%}",
        f"{kernel.gmacs_per_s:.1f}" if kernel.macs else "-",
        kernel.bound or "-",
        "-" if kernel.live_bytes is None else in_units(kernel.live_bytes),
    )
