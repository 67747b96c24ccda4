"""onnxsim in a child process, kept only where it removes nodes, computes the same and is no slower."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from edgekit.backends.onnx.load import OnnxRunnable, load
from edgekit.backends.runnable import Array
from edgekit.errors import first_line

CHILD = """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(onnx.load(sys.argv[1]))
if not ok:
    sys.exit("the simplified model computes something else")
open(sys.argv[2], "wb").write(model.SerializeToString(deterministic=True))
"""
TIMEOUT_S = 600
ROUNDS = 7
ATTEMPTS = 3  # a graph is called slower only if every attempt says so
WORTH_IT = 0.05  # a smaller saving is decided without a clock, so that bundles are reproducible
NO_SLOWER = 1.1  # interleaved runs scatter by a few per cent on a busy machine


def simplify(path: Path, inputs: Mapping[str, Array]) -> str:
    """Replace the file by onnxsim's version if that is worth it; says what was done and why."""
    candidate = path.with_suffix(".simplified.onnx")
    try:
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(candidate)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if child.returncode != 0 or not candidate.is_file():
            said = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            return f"onnxsim failed and its graph was dropped: {said}"
        before = len(onnx.load(str(path)).graph.node)
        try:
            after = len(onnx.load(str(candidate)).graph.node)
        except Exception as error:  # protobuf and onnx each raise their own
            return f"onnxsim wrote what is no model ({type(error).__name__}); it was dropped"
        if after > before * (1 - WORTH_IT):
            return f"onnxsim would leave {after} of {before} nodes; its graph was dropped"
        reason = _worse(path, candidate, inputs)
        if reason:
            return f"onnxsim's graph ({after} of {before} nodes) was dropped: {reason}"
        candidate.replace(path)
        return f"onnxsim removed {before - after} of {before} nodes"
    except subprocess.TimeoutExpired:
        return f"onnxsim took over {TIMEOUT_S} s and was dropped"
    finally:
        candidate.unlink(missing_ok=True)


def _worse(path: Path, candidate: Path, inputs: Mapping[str, Array]) -> str:
    try:
        old, new = load(path), load(candidate)
        expected, actual = old.run(inputs), new.run(inputs)
    except Exception as error:  # whatever onnxruntime has against the new graph
        return f"it does not run ({first_line(error)})"
    for name, value in expected.items():
        if name not in actual or not np.allclose(value, actual[name], rtol=1e-4, atol=1e-5):
            return f"output '{name}' changed"
    slower = all(_time_ratio(old, new, inputs) > NO_SLOWER for _ in range(ATTEMPTS))
    return "it is slower" if slower else ""


def _time_ratio(old: OnnxRunnable, new: OnnxRunnable, inputs: Mapping[str, Array]) -> float:
    """Median seconds of `new` over those of `old`, run in turns."""
    seconds: dict[OnnxRunnable, list[float]] = {old: [], new: []}
    for _ in range(ROUNDS):
        for session, times in seconds.items():
            started = time.perf_counter()
            session.run(inputs)
            times.append(time.perf_counter() - started)
    return statistics.median(seconds[new]) / statistics.median(seconds[old])
