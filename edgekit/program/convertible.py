"""What a captured module may not do, whatever the target: files are stateless lists of values."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from edgekit.errors import ConversionError
from edgekit.program.program import Program


def require_convertible(program: Program) -> None:
    """Raise ConversionError if forward nests its results, or changes a buffer or an input."""
    structure = program.exported.call_spec.out_spec
    assert structure is not None
    returned = structure.unflatten(list(range(len(program.outputs))))
    flat = [returned] if isinstance(returned, int) else returned
    if not isinstance(flat, tuple | list) or not all(isinstance(item, int) for item in flat):
        nested = "nested " if isinstance(flat, tuple | list) else ""
        kind = "dict" if isinstance(returned, dict) else type(returned).__name__  # or fx's own
        raise ConversionError(
            f"The module's forward returns a {nested}{kind}, and files give a "
            "flat list of tensors; wrap the module so that it returns a tuple of tensors."
        )
    signature = program.exported.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        raise ConversionError(
            f"The module's forward writes into '{changed[0]}', and files keep no state; compute a "
            "new tensor instead, and return it where a caller needs it."
        )


def require_own_outputs(program: Program) -> None:
    """Raise ConversionError if an output is an input, a weight, or another output once more.

    A file names each value once: such an output is lost in ONNX and refused by coremltools 9.0.
    """
    returned = program.exported.graph.output_node().args[0]
    assert isinstance(returned, tuple | list)
    first: dict[Any, str] = {}
    for spec, value in zip(program.outputs, returned, strict=True):
        if isinstance(value, Node) and value.op == "call_function" and value not in first:
            first[value] = spec.name
            continue
        again = f"'{first[value]}' once more" if value in first else "an input or a weight as it is"
        raise ConversionError(
            f"The module's '{spec.name}' is {again}; return computed values once."
        )
