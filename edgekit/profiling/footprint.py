"""What a bundle needs in memory, by three methods that are told apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import GOLDEN, Bundle, open_bundle
from edgekit.errors import UsageError
from edgekit.parity.memory_use import Case, NotMeasured, Prepared, measure
from edgekit.profiling.kernels import Kernels
from edgekit.profiling.opened import (
    MEMORY,
    Memory,
    Opened,
    Sessions,
    device_files,
    open_for_measuring,
)
from edgekit.split.bundle import GOLDEN_PACKET


@dataclass(frozen=True)
class ProcessMemory:
    """Of a fresh process with one memory setting, in bytes of resident memory."""

    memory: Memory
    load_peak_bytes: int
    """Above the imports, while the files were opened."""
    loaded_bytes: int
    run_peak_bytes: int
    """Above the opened files, in the first or the third run, output included and input not."""
    kept_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Above the imports: opening can need more than running."""
        return max(self.load_peak_bytes, self.loaded_bytes + self.run_peak_bytes)


@dataclass(frozen=True)
class Footprint:
    static_peak_bytes: int | None
    """Of a plan: live activations as predicted. None without a plan."""
    runtime_peak_bytes: int | None
    """Most that onnxruntime had asked for at once in one file's run, weights laid out anew included."""
    process: tuple[ProcessMemory, ...]
    reason: str = ""
    """Why there is no process's memory."""

    def to_json(self) -> dict[str, Any]:
        recommended = next((one for one in self.process if one.memory == "recommended"), None)
        return {
            "static_peak": self.static_peak_bytes,
            "runtime_peak": self.runtime_peak_bytes,
            "process_peak": recommended.peak_bytes if recommended else None,
            "process": [asdict(one) for one in self.process],
            "reason": self.reason,
        }  # fmt: skip


def measure_footprint(opened: Opened, kernels: tuple[Kernels, ...], threads: int) -> Footprint:
    """Runs the bundle in one fresh process for each memory setting; what fails is told in `reason`."""
    live = [file.live_peak_bytes for file in kernels if file.live_peak_bytes is not None]
    static = opened.plan.peak_bytes if opened.plan else None
    process, reasons = [], []
    for memory in MEMORY:
        arguments = {
            "bundle": str(opened.bundle.path.resolve()),
            "threads": threads,
            "memory": memory,
        }
        try:
            use = measure(Case(f"{__name__}:prepare", arguments))
        except UsageError as error:  # out of memory, say; all else was measured
            reasons.append(f"{memory}: {error}")
            continue
        if isinstance(use, NotMeasured):
            reasons.append(use.reason)
            break
        peak = max(use.first_run_peak_bytes, use.third_run_peak_bytes)
        process.append(
            ProcessMemory(memory, use.load_peak_bytes, use.loaded_bytes, peak, use.kept_bytes)
        )
    return Footprint(static, max(live, default=None), tuple(process), " ".join(reasons))


def prepare(bundle: str, threads: int, memory: Memory) -> Prepared:
    """In the measuring process."""
    opened = open_for_measuring(open_bundle(Path(bundle)), Sessions(threads, memory))
    return Prepared(
        opened.run, sum(value.nbytes for value in opened.inputs.values()), {"memory": memory, "threads": threads}
    )  # fmt: skip


def bundle_bytes(bundle: Bundle) -> int:
    """Of the files on a device's disk, without the golden pair and the golden packet."""
    names = [name for name in device_files(bundle) if name not in (GOLDEN, GOLDEN_PACKET)]
    return sum((bundle.path / name).stat().st_size for name in names)
