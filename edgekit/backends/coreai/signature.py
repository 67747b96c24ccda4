"""What a function of a Core AI asset takes and gives, from the words of the asset's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import UsageError

_TENSOR = re.compile(r"NDArray \((?P<dtype>\w+)(?:, (?P<sizes>\d+(?: × \d+)*))?\)")


@dataclass(frozen=True)
class Tensor:
    dtype: str
    """As numpy spells it."""
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape))}".strip()


@dataclass(frozen=True)
class Signature:
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def signature(summary: Any, function: str) -> Signature:
    """Raises UsageError for an image, a state or a size that is not fixed: edgekit writes none."""
    return Signature(
        _tensors(summary.function_inputs(function)), _tensors(summary.function_outputs(function))
    )


def _tensors(entries: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    return {name: _tensor(name, text) for name, text in entries}


def _tensor(name: str, text: str) -> Tensor:
    """From words such as "NDArray (Float32, 1 × 4 × 8 × 8)"."""
    found = _TENSOR.fullmatch(text)
    if found is None:
        raise UsageError(
            f"'{name}' of the Core AI asset is {text}, and only tensors of fixed size can be run; "
            "export it with edgekit."
        )
    sizes = found["sizes"]
    return Tensor(
        found["dtype"].lower(), tuple(int(size) for size in sizes.split(" × ")) if sizes else ()
    )
