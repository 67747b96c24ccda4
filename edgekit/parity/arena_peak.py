"""The live bytes of a run at their peak, by onnxruntime's own account.

It counts activations and outputs as they were asked for: neither inputs nor weights, nor work buffers
that a kernel frees again before it ends (those of transposed convolutions are large), nor what the
arena holds without using it, nor the rest of a chunk that a tensor does not fill (12.6 MB asked for
take a chunk of 16.8). Unlike resident memory it is exact and the same in every run, and release
wheels report it since 1.28 (`mem_bytes_requested_in_use` of kernel events).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.backends.onnx.session import (
    MemorySettings,
    SessionOptions,
    open_session,
    session_settings,
)
from edgekit.parity.memory_use import NotMeasured

Array = npt.NDArray[np.generic]
METHOD = "bytes that onnxruntime had asked for at its peak, memory pattern off"
_FIELD = "mem_bytes_requested_in_use"
_CHANGE = "mem_requested_in_use_delta"


def arena_peak_bytes(
    path: Path, inputs: Mapping[str, Array], *, reuse: bool = True
) -> int | NotMeasured:
    """Run the file once with profiling, with or without the reuse of dead tensors' buffers.

    A pattern would count its one block as in use from its first to its last tensor.
    """
    counted = MemorySettings(arena="own", pattern=False, reuse=reuse)
    settings = session_settings(SessionOptions(memory=counted))
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="edgekit-profile-") as folder:
        settings.profile_file_prefix = str(Path(folder) / "run")
        session = open_session(str(path), settings)
        session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event["args"] for event in events if _FIELD in event.get("args", {})]
    if not kernels:
        return NotMeasured(
            f"onnxruntime {onnxruntime.__version__} does not report its arena; 1.28 and later do"
        )
    # Weights that a session lays out anew are in the arena before the first kernel runs.
    before = int(kernels[0][_FIELD]) - int(kernels[0][_CHANGE])
    return max(int(kernel[_FIELD]) for kernel in kernels) - before
