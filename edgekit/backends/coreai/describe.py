"""Facts about a Core AI asset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.backends.coreai.load import load, open_asset
from edgekit.backends.coreai.names import operations
from edgekit.backends.facts import FileFacts


def describe(path: Path) -> FileFacts:
    """Raises UsageError if the asset cannot be read, MissingEnvironmentError without coreai-core."""
    door = load(path).signature
    asset = open_asset(path)
    summary = asset.summary(include_statistics=True)
    return FileFacts(
        kind=f"Core AI asset for iOS {summary._compatibility_version or '27'} and later",
        inputs=tuple(f"{name} {tensor}" for name, tensor in door.inputs.items()),
        outputs=tuple(f"{name} {tensor}" for name, tensor in door.outputs.items()),
        operators=Counter(
            {name: count for name, count in summary.operation_distribution if name != "constant"}
        ),
        max_rank=max(_ranks(asset.program), default=0),
        weight_bytes=Counter(
            {name.lower(): count * _bits(name) // 8 for name, count in summary.storage_types}
        ),
    )


def _bits(type_name: str) -> int:
    """Of an element type such as Float16, Int4 or Float8E4M3FN."""
    digits = re.search(r"\d+", type_name)
    return int(digits.group()) if digits else 8


def _ranks(program: Any) -> Iterator[int]:
    for operation in operations(program._module._mlir_module.operation):
        for result in operation.results:
            if getattr(result.type, "has_rank", False):
                yield result.type.rank
