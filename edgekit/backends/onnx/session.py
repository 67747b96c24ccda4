"""Session settings of onnxruntime as data: threads, optimisation level and how memory is held.

What the memory settings do, seen on a U-Net at 1024 x 1024 (MiB above the loaded session): arena and
pattern, which onnxruntime has on, need 608 in the first run and 912 from the second run on, since
the pattern's block comes on top of the arena that the first run filled; without pattern it stays
at 608. Several sessions hold several arenas unless they share one.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Literal

import onnxruntime

Arena = Literal["own", "shared", "none"]
Optimisation = Literal["basic", "extended", "all"]

_LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class MemorySettings:
    """How a session holds the tensors of a run."""

    arena: Arena = "own"
    """`own` grows by powers of two and is kept; `shared` is one per process for all sessions and
    grows by what is asked for; `none` asks the system for each tensor and gives it back."""

    pattern: bool = True
    """Lay out the tensors of a second run in one block, as the first run needed them."""

    reuse: bool = True
    """Let a tensor take the buffer of a dead one. It then lives as long as its last tenant."""


DEFAULT = MemorySettings()
"""What onnxruntime does by itself."""

SERVING = MemorySettings(arena="shared", pattern=False)
"""Several sessions, or one that runs many times: a peak that stays from the first run on."""

UNROLLED = MemorySettings(arena="none", reuse=False)
"""One file that holds many windows: windows of different shapes cannot take each other's buffers,
so with reuse they pile up until the end of the run."""

NAMED: dict[str, MemorySettings] = {"default": DEFAULT, "serving": SERVING, "unrolled": UNROLLED}


@dataclass(frozen=True)
class SessionOptions:
    threads: int = 0
    """0: as many as this process may use."""

    memory: MemorySettings = DEFAULT

    optimisation: Optimisation = "all"
    """`all` lays out convolutions by blocks of channels, which changes the last bits of results
    with the size of a window; up to `extended` they do not depend on it."""


def session_settings(options: SessionOptions) -> onnxruntime.SessionOptions:
    """onnxruntime's own form of the options; registers the process's arena where it is shared."""
    memory = options.memory
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or allowed_cpus()
    settings.graph_optimization_level = _LEVELS[options.optimisation]
    settings.enable_cpu_mem_arena = memory.arena != "none"
    settings.enable_mem_pattern = memory.pattern
    settings.enable_mem_reuse = memory.reuse
    settings.log_severity_level = 3
    if memory.arena == "shared":
        _register_arena()
        settings.add_session_config_entry("session.use_env_allocators", "1")
    return settings


_registering = threading.Lock()
_registered = False


def _register_arena() -> None:
    """Once per process: 1.32 replaces an arena that is registered again, older versions refuse."""
    global _registered  # noqa: PLW0603
    with _registering:
        if _registered:
            return
        place = onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        )
        as_requested = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
        try:
            onnxruntime.create_and_register_allocator(place, as_requested)
        except Exception as error:  # onnxruntime raises its own classes, one per status code
            if "already" not in str(error):  # the host program shares an arena of its own: use that
                raise
        _registered = True


def allowed_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
