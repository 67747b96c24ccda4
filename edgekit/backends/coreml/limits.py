"""What Core ML refuses at load although coremltools writes it: no Mac is needed to know.

Rank 5 at most; padding other than with zeros in the last two axes only (coremltools#2571, #2576);
instance_norm on rank 3 and 4 (its MIL documentation).
"""

from __future__ import annotations

from typing import Any

from edgekit.errors import ConversionError

MAX_RANK = 5


def require_loadable(model: Any) -> None:
    """Raise ConversionError for the first operator of a converted ML Program that would not load."""
    for function in model._mil_program.functions.values():
        for operator in function.operations:
            if operator.op_type != "const" and (reason := _refusal(operator)):
                raise ConversionError(
                    f"Core ML would not load the file: {operator.op_type} "
                    f"'{operator.outputs[0].name}' {reason}."
                )


def _refusal(operator: Any) -> str | None:
    rank = max((output.rank for output in operator.outputs), default=0)
    if rank > MAX_RANK:
        return f"has rank {rank}, and {MAX_RANK} is the most"
    if operator.op_type == "pad" and operator.mode.val != "constant":
        amounts = [int(amount) for amount in operator.pad.val]
        if any(amounts[:-4]):
            return f"pads by '{operator.mode.val}' in more than the last two axes"
    if operator.op_type == "instance_norm" and operator.x.rank > 4:
        return f"works on rank {operator.x.rank}, and 4 is the most"
    return None
