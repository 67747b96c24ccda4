"""Facts about a Core ML package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgekit.backends.coreml.load import read_function, read_spec
from edgekit.backends.coreml.steps import Value, described
from edgekit.backends.facts import FileFacts

OS_OF_SPECIFICATION = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}


def describe(path: Path) -> FileFacts:
    """Raises UsageError if the package cannot be read or is no ML Program."""
    spec = read_spec(path)
    version = spec.specificationVersion
    names = sorted(spec.mlProgram.functions)
    function = read_function(path, "main" if "main" in names else names[0])
    operators = [op for op in function.operations if not op.op_type.startswith("const")]
    values = [described(out) for op in operators for out in op.outputs]
    weights: Counter[str] = Counter()
    for op in function.operations:
        if op.op_type.startswith("const"):
            for name, size in _stored(op):
                weights[name] += size
    functions = f", functions {', '.join(names)}" if len(names) > 1 else ""
    return FileFacts(
        kind=f"Core ML ML Program, specification {version} ({OS_OF_SPECIFICATION.get(version, 'newer')}){functions}",
        inputs=tuple(_text(described(var)) for var in function.inputs.values()),
        outputs=tuple(_text(described(var)) for var in function.outputs),
        operators=Counter(op.op_type for op in operators),
        max_rank=max((len(value.shape) for value in values), default=0),
        weight_bytes=weights,
    )


def _stored(op: Any) -> list[tuple[str, int]]:
    """Element type and bytes of what a constant, compressed or not, keeps in the file."""
    if op.op_type == "const":
        value = op.outputs[0].val
        return [(str(value.dtype), int(value.nbytes))] if hasattr(value, "nbytes") else []
    parts = [var.val for var in op.inputs.values() if var is not None]
    return [
        (f"{part.dtype} ({op.op_type})", int(part.nbytes))
        for part in parts
        if hasattr(part, "nbytes")
    ]


def _text(value: Value) -> str:
    return (
        f"{value.name} {value.dtype} {'x'.join('?' if n is None else str(n) for n in value.shape)}"
    )
