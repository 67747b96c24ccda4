"""What onnxruntime's arena had in use at most during a run, by its own account.

It counts activations and outputs, each rounded up to 256 bytes or more, and neither inputs nor
weights nor what the arena holds without using it. Unlike resident memory it is exact and the same in
every run, and release wheels report it since 1.28 (`mem_in_use_peak` of kernel events).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.backends.onnx.session import MemorySettings, SessionOptions, session_settings
from edgekit.parity.memory_use import NotMeasured

Array = npt.NDArray[np.generic]
METHOD = "in-use peak of onnxruntime's arena, memory pattern off"
_FIELD = "mem_in_use_peak"


def arena_peak_bytes(
    path: Path, inputs: Mapping[str, Array], options: SessionOptions | None = None
) -> int | NotMeasured:
    """Run the file once with profiling. Of `options`, all but the memory settings is used.

    A pattern would count its one block as in use from its first to its last tensor.
    """
    counted = MemorySettings(arena="own", pattern=False)
    settings = session_settings(replace(options or SessionOptions(), memory=counted))
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="edgekit-profile-") as folder:
        settings.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    peaks = [int(event["args"][_FIELD]) for event in events if _FIELD in event.get("args", {})]
    if not peaks:
        return NotMeasured(
            f"onnxruntime {onnxruntime.__version__} does not report its arena; 1.28 and later do"
        )
    return max(peaks)
