"""Which operators torch.onnx can write."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

from edgekit.backends.onnx.quiet import quiet
from edgekit.detection.suppress_op import OVERLOAD
from edgekit.program.program import Program


def unsupported_operators(program: Program) -> list[str]:
    """Operators of `program` that have no ONNX form and do not decompose into any that have."""
    try:
        from torch.onnx._internal.exporter._decomp import (
            create_onnx_friendly_decomposition_table,
            get_onnx_implemented_overloads,
        )

        registry = _registry()
    except ImportError:  # not public: without them torch.onnx itself names the operator, later
        return []
    composite = {
        node.name: str(node.target)
        for node in program.exported.graph.nodes
        if _computes(node) and not registry.is_registered(node.target)
    }
    if not composite:
        return []
    table = create_onnx_friendly_decomposition_table(set(get_onnx_implemented_overloads(registry)))
    decomposed = program.exported.run_decompositions(table)
    lacking = set()
    for node in decomposed.graph.nodes:
        if _computes(node) and not registry.is_registered(node.target):
            origins = [origin.name for origin in node.meta.get("from_node", ())] + [node.name]
            names = [composite[name] for name in origins if name in composite]
            lacking.add(names[0] if names else str(node.target))
    return sorted(lacking)


@cache
def _registry() -> Any:
    """Filled once: it takes a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with quiet("torch.onnx"):
        return ONNXRegistry.from_torchlib()


def _computes(node: Node) -> bool:
    """An operator whose result is used; assertions have none and are left out of files."""
    ours = node.target is OVERLOAD  # which the writer brings a form for
    return isinstance(node.target, OpOverload) and bool(node.users) and not ours
