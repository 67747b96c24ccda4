"""Session settings of onnxruntime as data: threads, optimisation level and how memory is held.

What the memory settings do to a U-Net at 1024 x 1024 (MiB above the loaded session, output included,
onnxruntime 1.32): with arena and pattern, which it has on, the first run needs 628 and later ones 932,
since the pattern's block comes on top of the arena that the first run filled; without pattern it
stays at 628. Several sessions hold several arenas unless they share one.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from typing import Literal

import onnxruntime

from edgekit.backends.onnx.session_words import EXACT_SUMS, SESSION_NOTE

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
    """`own` grows with the session's needs and is kept; `shared` is one per process for all sessions;
    `none` asks the C library for each tensor and gives it back, which costs page faults."""

    pattern: bool = True
    """Lay out the tensors of a second run in one block, as the first run needed them."""

    reuse: bool = True
    """Let a tensor take the buffer of a dead one. It then lives as long as its last tenant."""

    first_chunk_bytes: int | None = None
    """Of a shared arena; None for 64 MiB. The first session of a process decides."""


DEFAULT = MemorySettings()
"""What onnxruntime does by itself."""

SERVING = MemorySettings(arena="shared", pattern=False)
"""Several sessions, or one that runs many times: a peak that stays from the first run on."""

FRUGAL = MemorySettings(arena="shared", pattern=False, reuse=False)
"""What plans are run with. A buffer that a later tensor is to take is not given back before: the first
stretch of Turbo-VAED-LTX at 1280x736 needs 741 MiB with reuse and 518 without. In one file that holds many
windows it is worse still, since windows of different shapes cannot take each other's buffers, which so
pile up until the end of the run. 4 x 4 windows of a small head (MiB in the tenth
run): 103 by default, 52 with SERVING, 21 with this, 37 without arena. No arena is no safe choice on
glibc, whose heap keeps and scatters freed blocks below 32 MiB: four convolutions on 16 MiB tensors
went from 32 MiB in the first run to 304 in the twelfth."""

RETURNING = MemorySettings(arena="none", pattern=False, reuse=False)
"""For what runs once and holds tensors of tens of megabytes: an arena keeps all that it ever touched, and
tensors of many sizes leave holes in it. The first stretch of Turbo-VAED-LTX at 1280x736 has 453 MiB
alive at its peak; an arena touched 820 and kept them, without one it was 585 to 646 in each of five
runs, and 62 to 226 stayed."""

NAMED: dict[str, MemorySettings] = {
    "default": DEFAULT, "serving": SERVING, "frugal": FRUGAL, "returning": RETURNING,
}  # fmt: skip


@dataclass(frozen=True)
class SessionOptions:
    threads: int = 0
    """0: as many as this process may use."""

    memory: MemorySettings = DEFAULT

    optimisation: Optimisation = "all"
    """`all` lays out convolutions by blocks of channels, which can change the last bits of results
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
        _register_arena(memory.first_chunk_bytes or _FIRST_CHUNK_BYTES)
        settings.add_session_config_entry("session.use_env_allocators", "1")
    return settings


def open_session(path: str, settings: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """With the exact sums that a quantised file's metadata asks for; then it is opened twice."""
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, settings, providers=providers)
    asked = json.loads(session.get_modelmeta().custom_metadata_map.get(SESSION_NOTE, "{}"))
    if EXACT_SUMS.items() <= asked.items():
        for word, value in EXACT_SUMS.items():
            settings.add_session_config_entry(word, value)
        session = onnxruntime.InferenceSession(path, settings, providers=providers)
    return session


_FIRST_CHUNK_BYTES = 64 << 20
"""One stretch that dead tensors are merged in. Memory that is not touched is not resident, so a small
model does not pay for it. Growth stays by powers of two: regions of exactly what is asked for cannot
be merged and needed more in every case (MiB; whole picture, 4 x 4 windows, 8 x 8 windows, six
window shapes with a session each: 830, 112, 53, 110 against 607, 77, 40, 71 with these)."""

_registering = threading.Lock()
_registered = False


def _register_arena(first_chunk_bytes: int) -> None:
    """Once per process: 1.32 replaces an arena that is registered again, older versions refuse."""
    global _registered
    with _registering:
        if _registered:
            return
        place = onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        )
        growth = onnxruntime.OrtArenaCfg({"initial_chunk_size_bytes": first_chunk_bytes})
        try:
            onnxruntime.create_and_register_allocator(place, growth)
        except Exception as error:  # onnxruntime raises its own classes, one per status code
            if "already" not in str(error):  # the host program shares an arena of its own: use that
                raise
        _registered = True


def allowed_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
