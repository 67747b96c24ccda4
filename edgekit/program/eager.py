"""The module run as it is, so that a failure of its own is told as such and not as a capture's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from edgekit.errors import ConversionError, EdgekitError, is_out_of_memory, kind_and_line
from edgekit.program.source import raised_at


def run_eagerly(module: nn.Module, example_inputs: Sequence[Tensor]) -> Any:
    """What the module gives for copies of the inputs, since a forward may write into its arguments.

    Raises ConversionError that names the user's line, the module and the shapes where it fails.
    """
    try:
        return module(*(value.clone() for value in example_inputs))
    except Exception as error:  # the user's code: anything can be raised
        if isinstance(error, EdgekitError) or is_out_of_memory(error):
            raise
        shapes = ", ".join(map(_described, example_inputs))
        raise ConversionError(
            f"{type(module).__name__} fails on its example inputs ({shapes}): {raised_at(error, module) or 'forward'} "
            f"raised {kind_and_line(error)}. Correct the module, or give example inputs that "
            "it takes."
        ) from error


def _described(value: Tensor) -> str:
    """ "1x3x8x8 float32" """
    shape = "x".join(map(str, value.shape)) or "scalar"
    return f"{shape} {str(value.dtype).removeprefix('torch.')}"
