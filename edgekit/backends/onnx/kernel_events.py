"""What onnxruntime's own profiler tells of each kernel, run after run."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgekit.backends.onnx.session import SessionOptions, open_session, session_settings
from edgekit.backends.runnable import Array

SUFFIX = "_kernel_time"
MOST_EVENTS = 500_000
"""onnxruntime drops events after a million (onnxruntime#16334)."""
FEWEST_RUNS = 3
WARM_UP_RUNS = 2
MICROSECOND_MS = 1e-3


@dataclass(frozen=True)
class KernelEvents:
    """Of one kernel."""

    name: str
    """Of its node in the optimised graph."""
    arguments: Mapping[str, Any]
    """Shapes, bytes and provider as onnxruntime writes them, the same in each run but for the memory."""
    times_ms: tuple[float, ...]
    """Of the runs after the warm-up."""


@dataclass(frozen=True)
class ProfiledRuns:
    graph: onnx.ModelProto
    """As onnxruntime runs it."""
    kernels: tuple[KernelEvents, ...]
    """In the order of their first run."""
    whole_ms: tuple[float, ...]
    """Of each run after the warm-up, with the profiler on."""


def profiled_runs(
    path: Path, feeds: Mapping[str, Array], options: SessionOptions, runs: int
) -> ProfiledRuns:
    """Of up to `runs` runs after a warm-up: fewer of a graph of many nodes."""
    settings = session_settings(options)
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="edgekit-profile-") as folder:
        settings.profile_file_prefix = str(Path(folder) / "run")
        settings.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = open_session(str(path), settings)
        graph = onnx.load(settings.optimized_model_filepath)
        affordable = MOST_EVENTS // max(1, len(graph.graph.node))
        for _ in range(WARM_UP_RUNS + max(FEWEST_RUNS, min(runs, affordable))):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    by_node: dict[int, list[dict[str, Any]]] = defaultdict(list)
    whole = []
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(SUFFIX):
            by_node[int(event["args"]["node_index"])].append(event)
        elif event["name"] == "model_run":
            whole.append(MICROSECOND_MS * event["dur"])
    kernels = tuple(
        KernelEvents(
            str(seen[0]["name"]).removesuffix(SUFFIX),
            seen[0]["args"],
            tuple(MICROSECOND_MS * event["dur"] for event in seen[WARM_UP_RUNS:]),
        )
        for seen in by_node.values()
    )
    return ProfiledRuns(graph, kernels, tuple(whole[WARM_UP_RUNS:]))
