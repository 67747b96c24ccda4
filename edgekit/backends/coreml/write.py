"""Write a Program as a Core ML package (ML Program), byte for byte the same each time."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.backends.coreml.float_sums import with_float_sums
from edgekit.backends.coreml.image_input import without_bytes
from edgekit.backends.coreml.limits import require_loadable
from edgekit.backends.coreml.palettes import with_palettes
from edgekit.backends.coreml.quiet import import_coremltools
from edgekit.backends.coreml.sparse_weights import has_many_zeros, without_zeros
from edgekit.backends.coreml.suppress import register as register_suppression
from edgekit.contract import TensorSpec
from edgekit.errors import ConversionError, UsageError, first_line
from edgekit.program.program import Program

CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
MISREAD = ("aten.cosine_similarity.default",)
"""Operators whose conversion in coremltools 9.0 fails for want of an argument that has a default."""
SOURCE = "com.github.apple.coremltools.source"


@dataclass(frozen=True)
class CoreMLOptions:
    minimum_os: str = "iOS17"
    half: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)
    """More entries of the metadata."""
    palette_bits: int | None = None
    """Of an index into shared values, which weights become; None: they stay as they are."""


def write(program: Program, path: Path, options: CoreMLOptions) -> None:
    """Write `program` to the package `path`; inputs and outputs stay float32 at the doors.

    Raises:
        ConversionError: coremltools refused the graph.
        UsageError: coremltools knows no such minimum OS.
    """
    ct = import_coremltools()
    register_suppression()
    precision = ct.precision.FLOAT16 if options.half else ct.precision.FLOAT32
    if not hasattr(ct.target, options.minimum_os):
        known = ", ".join(target.name for target in ct.target if target.name.startswith("iOS1"))
        raise UsageError(
            f"coremltools writes nothing for '{options.minimum_os}'; minimum_os is one of {known}."
        )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # four progress bars
            model = ct.convert(
                with_float_sums(without_bytes(program)).exported,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, options.minimum_os),
                compute_precision=precision,
                skip_model_load=True,
                inputs=[_input(ct, spec) for spec in program.inputs],
                outputs=[
                    ct.TensorType(spec.name, dtype=_door(spec.dtype)) for spec in program.outputs
                ],
            )
    except OSError:  # a full disk
        raise
    except Exception as error:  # coremltools raises whatever a lowering met
        raise ConversionError(f"coremltools refused the graph: {first_line(error)}.") from error
    if options.palette_bits is not None:
        grouped = getattr(ct.target, options.minimum_os) >= ct.target.iOS18
        model = with_palettes(model, options.palette_bits, grouped=grouped)
    elif has_many_zeros(program):
        model = without_zeros(model)
    require_loadable(model)
    _describe(model, program, options.notes)
    model.save(str(path))
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    _order_maps(path / MODEL)
    _fix_identifiers(path)


def unsupported_operators(program: Program) -> list[str]:
    """ATen operators of `program` that coremltools has no working conversion for."""
    import_coremltools()
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    operators = {
        str(node.target) for node in program.exported.graph.nodes if node.op == "call_function"
    }
    return sorted(
        operator
        for operator in operators
        if operator.startswith("aten.")
        and (operator in MISREAD or not _TORCH_OPS_REGISTRY.get_func(sanitize_op_kind(operator)))
    )


def _input(ct: Any, spec: TensorSpec) -> Any:
    """Pixels become an image, which an app gives as it comes from the camera or a file."""
    if spec.dtype == "uint8":
        return ct.ImageType(spec.name, shape=spec.shape, color_layout=ct.colorlayout.RGB)
    return ct.TensorType(spec.name, shape=spec.shape, dtype=_door(spec.dtype))


def _door(dtype: str) -> type:
    return {"float32": np.float32, "uint8": np.uint8}.get(dtype, np.int32)


def _describe(model: Any, program: Program, notes: Mapping[str, str]) -> None:
    for key in (CONVERSION_DATE, SOURCE):
        model.user_defined_metadata.pop(key, None)
    contract = {
        f"edgekit.{side}": [
            replace(spec, dtype=np.dtype(_door(spec.dtype)).name).to_json() for spec in specs
        ]
        for side, specs in (("inputs", program.inputs), ("outputs", program.outputs))
    }
    for key, value in contract.items():
        model.user_defined_metadata[key] = json.dumps(value)
    for key, note in notes.items():
        model.user_defined_metadata[key] = note
    for spec in program.inputs:
        model.input_description[spec.name] = f"{spec.meaning} {spec.axes}".strip()
    for spec in program.outputs:
        model.output_description[spec.name] = f"{spec.meaning} {spec.axes}".strip()


def _order_maps(file: Path) -> None:
    """Write the protobuf again with its maps sorted: by default they follow Python's hash seed."""
    from coremltools.proto.Model_pb2 import Model

    model = Model()
    model.ParseFromString(file.read_bytes())
    file.write_bytes(model.SerializeToString(deterministic=True))


def _fix_identifiers(package: Path) -> None:
    """Replace the two random UUIDs of Manifest.json by uuid5 of what they name."""
    manifest = package / "Manifest.json"
    data = json.loads(manifest.read_text())
    entries = data["itemInfoEntries"]
    named = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        for key, entry in entries.items()
    }
    data["itemInfoEntries"] = {
        named[key]: entries[key] for key in sorted(entries, key=lambda key: named[key])
    }
    data["rootModelIdentifier"] = named[data["rootModelIdentifier"]]
    manifest.write_text(json.dumps(data, indent=4) + "\n")
