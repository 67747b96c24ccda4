"""What a target cannot hold or runs badly, found on the graph before a conversion starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.fx import Node

from edgekit.program.program import Program
from edgekit.program.source import origin
from edgekit.target import Lints


@dataclass(frozen=True)
class Finding:
    level: Literal["error", "warning"]
    node: str
    source: str
    message: str


def lint(program: Program, lints: Lints, unsupported: Iterable[str] = ()) -> list[Finding]:
    """Check `program` against a target.

    `unsupported` are ATen operators for which the backend says it has no conversion. An error
    means that the conversion cannot succeed.
    """
    lacking = dict.fromkeys(unsupported, "the converter has no form for it")
    findings: list[Finding] = []
    for node in program.exported.graph.nodes:
        if node.op == "call_function":
            findings += _findings(node, lints, lacking)
    return findings


def _findings(node: Node, lints: Lints, lacking: dict[str, str]) -> Iterator[Finding]:
    operator = str(node.target)
    value = node.meta.get("val")
    source = origin(node)
    refused = lints.refused.get(operator) or lacking.get(operator)
    if refused:
        yield Finding("error", node.name, source, f"{operator}: {refused}")
    elif operator in lints.warned:
        yield Finding("warning", node.name, source, f"{operator}: {lints.warned[operator]}")
    if isinstance(value, Tensor):
        if value.dim() > lints.max_rank:
            message = f"{operator} gives rank {value.dim()}; the target holds {lints.max_rank}"
            yield Finding("error", node.name, source, message)
        if any(not isinstance(size, int) for size in value.shape):
            message = f"{operator} gives a size that depends on values; shapes must be fixed"
            yield Finding("error", node.name, source, message)
