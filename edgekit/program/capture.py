"""From a module to a Program: `torch.export` at fixed shapes, or a named trace where that fails."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO

import torch
from torch import Tensor, nn
from torch._export.verifier import Verifier
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from edgekit.contract import TensorSpec
from edgekit.errors import ConversionError, first_line
from edgekit.program.eager import run_eagerly
from edgekit.program.program import Program


@dataclass(frozen=True)
class Capture:
    program: Program
    method: str
    """"torch.export", or "trace" with the reason why export failed."""


@contextmanager
def without_torch_warnings() -> Iterator[None]:
    """torch 2.13 warns of its own internals, once for each graph that is copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _quiet_on_failure() -> Iterator[None]:
    """torch.export prints its unfinished graph where a branch depends on values; the error says that in words.

    What was printed becomes a note of the error, which tracebacks show.
    """
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    except Exception as error:
        if said.getvalue():
            error.add_note(said.getvalue())
        raise
    sys.stderr.write(said.getvalue())


def capture(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
) -> Capture:
    """Capture `module` in eval mode at the shapes of `example_inputs`.

    Names and ranges come from `inputs` and `outputs`; without them they are made from the graph.

    Raises:
        ConversionError: the module's own forward fails, or neither torch.export nor tracing can follow it.
    """
    module = module.eval()
    arguments = tuple(example_inputs)
    method = "torch.export"
    with torch.no_grad():
        try:
            with _quiet_on_failure():
                exported = torch.export.export(module, arguments)
        except Exception as export_error:  # user code runs inside: anything can be raised
            run_eagerly(module, arguments)  # what fails by itself cannot be traced either
            reason = first_line(export_error)
            method = f"trace (branches fixed as for the example input; torch.export said: {reason})"
            exported = _trace(module, arguments, reason)
        # Functional ATen with composite operators such as silu and layer_norm kept whole.
        exported = _without_assertions(exported.run_decompositions({}))
    with_specs = _with_specs(exported, arguments, tuple(inputs), tuple(outputs))
    return Capture(with_specs, method)


def recapture(module: torch.fx.GraphModule, program: Program) -> Program:
    """The Program of an edited graph of `program`, with its names and source lines kept."""
    return capture_graph(module, program.inputs, program.outputs)


def capture_graph(
    module: torch.fx.GraphModule, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Program:
    """A graph of ATen operators as a Program with these inputs and outputs."""
    arguments = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with torch.no_grad():
        exported = torch.export.export(module, arguments)
    return Program(_as_aten(exported), inputs, outputs)


def _as_aten(exported: ExportedProgram) -> ExportedProgram:
    """Declare a functional graph to be one: what `run_decompositions({})` would find by tracing it again.

    The verifier refuses operators that write in place.
    """
    return ExportedProgram(
        root=exported.graph_module,
        graph=exported.graph,
        graph_signature=exported.graph_signature,
        state_dict=exported.state_dict,
        range_constraints=exported.range_constraints,
        module_call_graph=exported.module_call_graph,
        example_inputs=exported.example_inputs,
        constants=exported.constants,
        verifiers=[Verifier],
    )


def expanded(program: Program, operators: Collection[str]) -> Program:
    """The Program with the named composite operators written out in simpler ones, where torch can."""
    known = dict(torch.export.default_decompositions())  # type: ignore[call-overload]
    table = {operator: written for operator, written in known.items() if str(operator) in operators}
    if not table:
        return program
    with torch.no_grad():
        exported = _without_assertions(program.exported.run_decompositions(table))
    return Program(exported, program.inputs, program.outputs)


def _trace(module: nn.Module, arguments: tuple[Tensor, ...], reason: str) -> ExportedProgram:
    try:
        # Values are real here, so a branch on one is taken as for the example input.
        functional = torch.func.functionalize(module)  # writes in place would count as dead code
        traced = make_fx(functional, _error_on_data_dependent_ops=False)(*arguments)
        traced.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        return torch.export.export(traced, arguments)
    except Exception as trace_error:
        second = first_line(trace_error)
        also = "" if second == reason else f", and tracing said '{second}'"
        raise ConversionError(
            f"{type(module).__name__} cannot be captured: torch.export said '{reason}'{also}. Make forward take and return tensors only, without branches on values."
        ) from trace_error


def _without_assertions(exported: ExportedProgram) -> ExportedProgram:
    """Drop what `x.float()` leaves of a float32 value: a check that half precision would fail."""
    check = torch.ops.aten._assert_tensor_metadata.default
    for node in exported.graph.find_nodes(op="call_function", target=check):
        exported.graph.erase_node(node)
    exported.graph_module.recompile()
    return exported


def _with_specs(
    exported: ExportedProgram,
    arguments: tuple[Tensor, ...],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> Program:
    signature = exported.graph_signature
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    results = [(name, values.get(str(name))) for name in signature.user_outputs]
    if not inputs:
        names = signature.user_inputs
        inputs = tuple(
            _spec(str(name), value) for name, value in zip(names, arguments, strict=True)
        )
    if not outputs:
        single = len(results) == 1
        taken = any(spec.name.startswith("output") for spec in inputs)
        word = "result" if taken else "output"
        outputs = tuple(
            _spec(word if single else f"{word}_{index}", value)
            for index, (_, value) in enumerate(results)
        )
    if len(outputs) != len(results):
        raise ConversionError(
            f"The module returns {len(results)} tensors but {len(outputs)} outputs are declared; "
            "declare one TensorSpec per returned tensor."
        )
    for spec, (_, value) in zip(outputs, results, strict=True):
        _spec(spec.name, value)
    return Program(exported, inputs, outputs)


def _spec(name: str, value: object) -> TensorSpec:
    if not isinstance(value, Tensor):
        raise ConversionError(
            f"'{name}' is {type(value).__name__}, not a tensor; a model takes and returns tensors."
        )
    if any(not isinstance(size, int) for size in value.shape):
        raise ConversionError(
            f"The size of '{name}' depends on values, and files have fixed shapes; return a tensor "
            "of fixed size, such as the first k of them."
        )
    shape = tuple(int(size) for size in value.shape)
    return TensorSpec(name, shape, str(value.dtype).removeprefix("torch."))
