"""Names that coreai-core draws anew in each process, replaced by numbers in order.

None of this is public: the ways were found in coreai-core 1.0.0b3, which coreai-torch 0.4.3 pins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.backends.coreai.packages import coreai_module

# What coreai-core itself writes; the runtime cannot always open a file that asks for more.
ALIGNMENT_BYTES = 16


def number_names(converted: Any) -> None:
    """Rename in place what the `AIProgram` calls its composite graphs and its larger weights."""
    module = converted._module._mlir_module
    with module.context:
        _number_graphs(module)
        _number_weights(module)


def operations(operation: Any) -> Iterator[Any]:
    """All operations inside, depth first."""
    for region in operation.regions:
        for block in region:
            for inner in block.operations:
                yield inner
                yield from operations(inner.operation)


def _number_graphs(module: Any) -> None:
    """`layer_norm_bjnrcdwv` becomes `layer_norm_0`."""
    symbols = coreai_module("coreai._compiler.ir").SymbolTable
    seen: Counter[str] = Counter()
    for graph in list(module.body.operations):
        if "template_op" in graph.attributes:
            kind = graph.attributes["template_op"].value
            name = f"{kind}_{seen[kind]}"
            seen[kind] += 1
            old = graph.attributes["sym_name"].value
            symbols.replace_all_symbol_uses(old, name, module.operation)
            symbols.set_symbol_name(graph, name)


def _number_weights(module: Any) -> None:
    """`resource_<hash>`, whose seed is random, becomes `weight_0`; equal weights stay shared."""
    renamed: dict[str, Any] = {}
    for operation in operations(module.operation):
        if operation.operation.name != "coreai.constant":
            continue
        old = operation.attributes["value"]
        # A constant inside the graph would be printed in full, a resource by its name only.
        if not coreai_module("coreai._compiler.ir").DenseResourceElementsAttr.isinstance(old):
            continue
        key = str(old)
        if key not in renamed:
            renamed[key] = _copy(operation, f"weight_{len(renamed)}")
        operation.attributes["value"] = renamed[key]


def _copy(constant: Any, name: str) -> Any:
    ir = coreai_module("coreai._compiler.ir")
    kind = constant.result.type
    data = np.empty(_bytes(kind), dtype=np.uint8)
    compiler = coreai_module("coreai._compiler._mlir_libs._coreaiIR._bindings.compiler")
    compiler.copy_constant_value_to_array(constant_op=constant.operation, destination=data)
    return ir.DenseResourceElementsAttr.get_from_buffer(data, name, kind, alignment=ALIGNMENT_BYTES)


def _bytes(kind: Any) -> int:
    bits = int(np.prod(kind.shape, dtype=np.int64)) * int(kind.element_type.width)
    return -(-bits // 8)
