"""What a measurement was made on, as far as the machine tells."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
CPU_FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")


@dataclass(frozen=True)
class Machine:
    processor: str
    architecture: str
    system: str
    cpus: int
    """That this process may use."""
    runtime: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return f"{self.processor} ({self.architecture}, {self.cpus} CPUs), {self.system}, {self.runtime}"


@dataclass(frozen=True)
class Condition:
    """At one moment; None where the machine does not tell."""

    frequency_mhz: float | None
    temperature_celsius: float | None
    load: float | None
    """Processes that want to run, over the last minute: above the number of CPUs, times are not the model's."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def this_machine(runtime: str) -> Machine:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        _processor(), platform.machine(), f"{platform.system()} {platform.release()}", allowed or 1, runtime
    )  # fmt: skip


def condition_now() -> Condition:
    frequency, temperature = _number(CPU_FREQUENCY), _number(THERMAL_ZONE)
    return Condition(
        None if frequency is None else frequency / 1e3,
        None if temperature is None else temperature / 1e3,
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [
        line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))
    ]
    return next(filter(None, named), platform.processor() or "unknown processor")


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
