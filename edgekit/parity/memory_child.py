"""The measuring process: python -m edgekit.parity.memory_child ANSWER.json < question.json

Started by `edgekit.parity.memory_use.measure`. Three runs, because onnxruntime's second run can
need more than its first (onnxruntime#14477).
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgekit.parity import high_water
from edgekit.parity.memory_use import RUNS, MemoryUse, NotMeasured, Prepared


def measured(prepare: Callable[[], Prepared]) -> MemoryUse | NotMeasured:
    """Memory of this process during `prepare` and three runs of what it returns."""
    if reason := high_water.reason_against():
        return NotMeasured(reason)
    empty = _settled()
    prepared = prepare()
    load_peak = high_water.highest_resident_bytes() - empty
    loaded = _settled()
    peaks, output_bytes = [], 0
    for _ in range(RUNS):
        high_water.reset()
        output = prepared.run()
        peaks.append(high_water.highest_resident_bytes() - loaded)
        output_bytes = array_bytes(output)
        del output
        gc.collect()
    return MemoryUse(
        load_peak_bytes=load_peak,
        loaded_bytes=loaded - empty,
        first_run_peak_bytes=peaks[0],
        third_run_peak_bytes=peaks[-1],
        kept_bytes=high_water.resident_bytes() - loaded,
        input_bytes=prepared.input_bytes,
        output_bytes=output_bytes,
        output_is_counted=not prepared.output_is_held,
        settings=prepared.settings,
        method=high_water.METHOD,
    )


def array_bytes(value: object) -> int:
    """Size of all arrays in a value, which may be a sequence or a mapping of them."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(array_bytes(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(array_bytes(item) for item in value)
    return 0


def _settled() -> int:
    """Resident bytes once garbage is gone; the high-water mark begins there."""
    gc.collect()
    high_water.give_back_freed()
    high_water.reset()
    return high_water.resident_bytes()


def main() -> None:
    question = json.load(sys.stdin)
    module, _, name = question["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    result = measured(lambda: function(**question["arguments"]))
    Path(sys.argv[1]).write_text(json.dumps(asdict(result)), encoding="utf-8")


if __name__ == "__main__":
    main()
