"""edgekit: compact vision models from a training checkpoint to a verified file on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.errors import (
    ConversionError,
    EdgekitError,
    MissingEnvironmentError,
    ParityError,
    StoppedError,
    TrainingError,
    UsageError,
)

if TYPE_CHECKING:
    from edgekit.api import calibrate, evaluate, export, label, load, profile, run, stream, verify
    from edgekit.bundle import Bundle
    from edgekit.compress.pruning.options import PruneOptions
    from edgekit.compress.quantise import quantize
    from edgekit.compress.quantise_options import QuantiseOptions
    from edgekit.detection.coco_evaluation import Evaluation
    from edgekit.distillation.loop import Distilled, distill
    from edgekit.model import Model
    from edgekit.planning import MemoryPlan, memory_plan
    from edgekit.profiling.result import Profile
    from edgekit.pruning import prune
    from edgekit.report import Report

__all__ = [
    "Bundle",
    "ConversionError",
    "Distilled",
    "EdgekitError",
    "Evaluation",
    "MemoryPlan",
    "MissingEnvironmentError",
    "Model",
    "ParityError",
    "Profile",
    "PruneOptions",
    "QuantiseOptions",
    "Report",
    "StoppedError",
    "TrainingError",
    "UsageError",
    "calibrate",
    "distill",
    "evaluate",
    "export",
    "label",
    "load",
    "memory_plan",
    "profile",
    "prune",
    "quantize",
    "run",
    "stream",
    "verify",
]

_HOMES = {
    "Bundle": "edgekit.bundle",
    "Distilled": "edgekit.distillation.loop",
    "Evaluation": "edgekit.detection.coco_evaluation",
    "MemoryPlan": "edgekit.planning",
    "Model": "edgekit.model",
    "Profile": "edgekit.profiling.result",
    "PruneOptions": "edgekit.compress.pruning.options",
    "QuantiseOptions": "edgekit.compress.quantise_options",
    "Report": "edgekit.report",
    "calibrate": "edgekit.api",
    "distill": "edgekit.distillation.loop",
    "evaluate": "edgekit.api",
    "export": "edgekit.api",
    "label": "edgekit.api",
    "load": "edgekit.api",
    "memory_plan": "edgekit.planning",
    "profile": "edgekit.api",
    "prune": "edgekit.pruning",
    "quantize": "edgekit.compress.quantise",
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
