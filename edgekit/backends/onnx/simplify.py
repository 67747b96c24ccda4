"""onnxsim in a child process, kept only where it removes nodes and computes the same.

Whether its graph is also faster is not asked here: a clock would make two exports differ.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from edgekit.backends.onnx.leaves import leaves_last
from edgekit.backends.onnx.load import load
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
WORTH_IT = 0.05  # of the nodes; a smaller saving is no reason to ship another tool's graph


def simplify(path: Path, inputs: Mapping[str, Array]) -> str:
    """Replace the file by onnxsim's version if that is worth it; says what was done and why, and nothing of a file with little to remove."""
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
            said = said.replace(str(path.parent), "").replace(path.name, "the file")
            return f"onnxsim failed and its graph was dropped: {said}"
        before = len(onnx.load(str(path)).graph.node)
        try:
            after = len(onnx.load(str(candidate)).graph.node)
        except Exception as error:  # protobuf and onnx each raise their own
            return f"onnxsim wrote what is no model ({type(error).__name__}); it was dropped"
        if after > before * (1 - WORTH_IT):
            return ""
        reason = _changed(path, candidate, inputs)
        if reason:
            return f"onnxsim's graph ({after} of {before} nodes) was dropped: {reason}"
        simplified = onnx.load(str(candidate))
        leaves_last(simplified)
        path.write_bytes(simplified.SerializeToString(deterministic=True))
        return f"onnxsim removed {before - after} of {before} nodes"
    except subprocess.TimeoutExpired:
        return f"onnxsim took over {TIMEOUT_S} s and was dropped"
    finally:
        candidate.unlink(missing_ok=True)


def _changed(path: Path, candidate: Path, inputs: Mapping[str, Array]) -> str:
    try:
        old, new = load(path), load(candidate)
        expected, actual = old.run(inputs), new.run(inputs)
    except Exception as error:  # whatever onnxruntime has against the new graph
        return f"it does not run ({first_line(error)})"
    for name, value in expected.items():
        if name not in actual or not np.allclose(value, actual[name], rtol=1e-4, atol=1e-5):
            return f"output '{name}' changed"
    return ""
