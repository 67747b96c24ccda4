"""Write a Program as one ONNX file: opset 18, IR 10, contract in the metadata."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer

from edgekit.backends.onnx.leaves import leaves_last
from edgekit.backends.onnx.module_note import MODULE_NOTE
from edgekit.backends.onnx.quiet import quiet
from edgekit.backends.onnx.suppress import suppress
from edgekit.contract import TensorSpec
from edgekit.detection.suppress_op import OVERLOAD
from edgekit.errors import ConversionError, first_line
from edgekit.program.precision import in_half
from edgekit.program.program import Program
from edgekit.program.source import module_path

PROTOBUF_LIMIT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class OnnxOptions:
    opset: int = 18
    ir_version: int = 10
    half: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    """More entries of the metadata."""


def write(program: Program, path: Path, options: OnnxOptions) -> None:
    """Write `program` to `path`; weights stay inside the file.

    Raises:
        ConversionError: an operator has no ONNX form, the exporter changed the opset, or the file
            would pass the 2 GB that protobuf can hold.
    """
    try:
        source = in_half(program) if options.half else program
        with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "onnx_ir"):
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                source.exported,
                dynamo=True,
                opset_version=options.opset,
                external_data=False,
                optimize=False,
                verbose=False,
                input_names=[spec.name for spec in program.inputs],
                output_names=[spec.name for spec in program.outputs],
                custom_translation_table={OVERLOAD: suppress},
            )
    except Exception as error:  # torch and the exporter raise whatever a lowering met
        raise ConversionError(f"ONNX export failed: {_root_cause(error)}.") from error
    assert exported is not None
    _fold_constants(exported.model)
    model = exported.model_proto
    _require_opset(model, options.opset)
    model.ir_version = min(model.ir_version, options.ir_version)
    _strip_build_traces(model)
    _name_modules(model, source)
    leaves_last(model)
    onnx.helper.set_model_props(
        model, {**_contract(program.inputs, program.outputs), **options.notes}
    )
    size = model.ByteSize()
    if size > PROTOBUF_LIMIT_BYTES:
        raise ConversionError(
            f"The ONNX file would hold {size / 2**30:.1f} GiB and protobuf stops at 2 GiB; "
            "export with --precision fp16."
        )
    path.write_bytes(model.SerializeToString(deterministic=True))


def _fold_constants(model: onnx_ir.Model) -> None:
    """What the exporter's own optimiser does, less its habit of taking `+ 1e-8` for `+ 0`.

    Without that epsilon an all-zero vector of a channel norm becomes NaN (seen with torch 2.13).
    """
    common.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    for clean in (
        common.LiftConstantsToInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.NameFixPass(),  # a buffer may have an output's name
    ):
        clean(model)


def _require_opset(model: onnx.ModelProto, opset: int) -> None:
    """The exporter takes an opset as a wish (pytorch#161056); a file that differs is refused."""
    written = {entry.domain: entry.version for entry in model.opset_import}
    if written.get("") != opset:
        raise ConversionError(
            f"Opset {opset} was asked for and the exporter wrote {written.get('')}; "
            "ask for that opset in the target file."
        )


def _strip_build_traces(model: onnx.ModelProto) -> None:
    """Remove stack traces and module paths, which name folders of the machine that exported."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    model.producer_version = ""


def _name_modules(model: onnx.ModelProto, program: Program) -> None:
    """The exporter keeps the names of a program's values, but for those of its outputs."""
    graph = program.exported.graph
    paths = {node.name: module_path(node) for node in graph.nodes}
    results: Any = graph.output_node().args[0]
    paths |= {spec.name: module_path(node) for spec, node in zip(program.outputs, results)}
    for node in model.graph.node:
        path = next(filter(None, map(paths.get, node.output)), None)
        if path is not None:
            node.metadata_props.add(key=MODULE_NOTE, value=path)


def _contract(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {
        "edgekit.inputs": json.dumps([spec.to_json() for spec in inputs]),
        "edgekit.outputs": json.dumps([spec.to_json() for spec in outputs]),
    }


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
