"""What loading and running a model needs in memory, measured in a process of its own.

A case names a function that loads: it is called in the child with JSON arguments and returns a
`Prepared` run. `edgekit.parity.onnx_steps:prepare` is one for ONNX files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import UsageError

RUNS = 3


@dataclass(frozen=True)
class Case:
    """`function` is `module:name`; it is imported with this process's module search path."""

    function: str
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """What a case's function returns: a loaded model, ready to run."""

    run: Callable[[], object]
    """What it returns (arrays, or sequences and mappings of them) is dropped before the next run."""

    input_bytes: int
    """Arrays that `prepare` made and holds. They are in the loaded figure, not in the runs'."""

    settings: Mapping[str, str | int | bool]
    """Threads and whatever else the figures depend on."""

    output_is_held: bool = False
    """Whether the run writes into arrays that `prepare` made, so that its figure lacks them."""


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of resident memory in one fresh process, after its imports.

    Load figures are above the imports, run figures above the loaded model.
    """

    load_peak_bytes: int
    loaded_bytes: int
    first_run_peak_bytes: int
    third_run_peak_bytes: int
    kept_bytes: int
    """Still held after the third run, its output dropped."""

    input_bytes: int
    """In `loaded_bytes`, not in the run figures."""

    output_bytes: int
    output_is_counted: bool
    """Whether the run figures include `output_bytes`."""

    settings: Mapping[str, str | int | bool]
    method: str


@dataclass(frozen=True)
class NotMeasured:
    reason: str


def measure(case: Case) -> MemoryUse | NotMeasured:
    """Load and run three times in a fresh process.

    Raises UsageError if the case's function cannot be found, or fails, or runs out of memory.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory(prefix="edgekit-memory-") as folder:
        answer = Path(folder) / "answer.json"  # what is measured may print
        question = json.dumps({"function": case.function, "arguments": dict(case.arguments)})
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.parity.memory_child", str(answer)],
            input=question,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode < 0:
            raise UsageError(
                f"The process that measured {case.function} was ended by signal {-done.returncode}; "
                "the machine may be out of memory."
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UsageError(f"{case.function} failed while it was measured: {last.rstrip('.')}.")
        fields = json.loads(answer.read_text(encoding="utf-8"))
    return NotMeasured(fields["reason"]) if "reason" in fields else MemoryUse(**fields)
