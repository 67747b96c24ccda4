"""What an export tells of itself besides its program: versions, and entries of the files' metadata."""

from __future__ import annotations

import json
from importlib.metadata import version

import torch

from edgekit.backends.onnx.session_words import EXACT_SUMS, SESSION_NOTE
from edgekit.model import Model
from edgekit.plan.plan import Plan
from edgekit.target import Target

IMAGE_NOTE = "edgekit.image"
"""In the metadata of a detector's files: normalisation, class names and thresholds."""


def notes_of(model: Model, plan: Plan | None, file: str, target: Target) -> dict[str, str]:
    """For the metadata of a model file: an app that has no manifest beside it reads them there."""
    notes = {}
    if target.format == "onnx":
        session = plan.session_settings(plan.models[file].session) if plan is not None else {}
        session |= EXACT_SUMS if model.codes is not None and model.codes.overflows else {}
        if session:
            notes[SESSION_NOTE] = json.dumps(session)
    if model.boxes is not None and model.recipe is not None:
        notes[IMAGE_NOTE] = json.dumps(model.recipe.contract.declared()["image"])
    return notes


def versions_of(format: str) -> dict[str, str]:
    packages = {
        "onnx": ("onnx", "onnxruntime"),
        "coreml": ("coremltools",),
        "coreai": ("coreai-torch", "coreai-core"),
    }.get(format, ())
    return {
        "edgekit": version("edgekit-vision"),
        "torch": str(torch.__version__),
        **{package: version(package) for package in packages},
    }
