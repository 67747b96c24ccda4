"""edgekit: compact vision models from a training checkpoint to a verified file on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.errors import (
    ConversionError,
    EdgekitError,
    MissingEnvironmentError,
    ParityError,
    UsageError,
)

if TYPE_CHECKING:
    from edgekit.api import export, load, run, stream, verify
    from edgekit.bundle import Bundle
    from edgekit.model import Model
    from edgekit.planning import MemoryPlan, memory_plan
    from edgekit.report import Report

__all__ = [
    "Bundle",
    "ConversionError",
    "EdgekitError",
    "MemoryPlan",
    "MissingEnvironmentError",
    "Model",
    "ParityError",
    "Report",
    "UsageError",
    "export",
    "load",
    "memory_plan",
    "run",
    "stream",
    "verify",
]

_HOMES = {
    "Bundle": "edgekit.bundle",
    "MemoryPlan": "edgekit.planning",
    "Model": "edgekit.model",
    "Report": "edgekit.report",
    "export": "edgekit.api",
    "load": "edgekit.api",
    "memory_plan": "edgekit.planning",
    "run": "edgekit.api",
    "stream": "edgekit.api",
    "verify": "edgekit.api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import edgekit` itself loads neither torch nor coremltools."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
