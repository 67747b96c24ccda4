"""What every backend's `load` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgekit.errors import UsageError

Array = npt.NDArray[np.generic]


class Runnable(Protocol):
    """A loaded model file that computes."""

    reference: str
    """What computes: a runtime and its provider, or the reference interpreter. Never a device."""

    rounds_to_half: bool
    """Whether values that the file declares half are rounded to half when it runs here."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. Raises UsageError for a missing input or a wrong shape."""
        ...

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Every computed value in execution order: value name, operator type, value."""
        ...


def check_inputs(
    inputs: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], file: str
) -> None:
    """Raise UsageError, naming the input, for a missing or unknown name or a wrong shape."""
    missing = [name for name in shapes if name not in inputs]
    unknown = [name for name in inputs if name not in shapes]
    if missing or unknown:
        wrong = f"has no input '{unknown[0]}'" if unknown else f"needs the input '{missing[0]}'"
        raise UsageError(f"{file} {wrong}; its inputs are {', '.join(shapes)}.")
    for name, shape in shapes.items():
        if tuple(inputs[name].shape) != tuple(shape):
            raise UsageError(
                f"Input '{name}' of {file} has shape {tuple(shape)}, but {inputs[name].shape} was given."
            )
