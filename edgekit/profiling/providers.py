"""What onnxruntime's execution providers would take of a file, predicted without a device: upper bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgekit.profiling.macs import FILTERS, macs
from edgekit.profiling.partitions import partitions
from edgekit.profiling.provider_rules import FREE, Facts, Provider, known_providers
from edgekit.report import aligned


@dataclass(frozen=True)
class Prediction:
    provider: str
    source: str
    """Of its rules, with their version."""
    partitions: int
    nodes: int
    taken: int
    mac_share: float
    """Of the multiply-accumulates."""
    refusals: tuple[tuple[str, int], ...]
    """Why nodes run elsewhere, with how many, most first."""

    def to_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider, "source": self.source, "partitions": self.partitions, "nodes": self.nodes,
            "taken": self.taken, "mac_share": self.mac_share, "refusals": dict(self.refusals),
        }  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    file: str
    available: tuple[str, ...]
    """In the onnxruntime of this process."""
    predicted: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [one.to_json() for one in self.predicted]
        return {"file": self.file, "available": list(self.available), "predicted": rows}

    def text(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("provider, predicted", "nodes", "of the work", "partitions", "elsewhere")
        ]
        rows += [
            (one.provider, f"{one.taken}/{one.nodes}", f"{one.mac_share:.0%}", str(one.partitions),
             "; ".join(f"{count} {reason}" for reason, count in one.refusals[:3]) or "nothing")
            for one in self.predicted
        ]  # fmt: skip
        return f"{aligned(rows)}\n{self.remark()}"

    def remark(self) -> str:
        sources: dict[str, list[str]] = {}
        for one in self.predicted:
            sources.setdefault(one.source, []).append(one.provider)
        lists = "; ".join(f"{source}: {', '.join(names)}" for source, names in sources.items())
        here = ", ".join(name.removesuffix("ExecutionProvider") for name in self.available)
        return f"at most so much, by the lists of {lists}; the onnxruntime here has {here}"


def predict(path: Path) -> Predictions:
    """Of an ONNX file, as it was exported."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False)).graph
    facts = Facts.of(graph)
    nodes = [node for node in graph.node if node.op_type not in FREE]
    found = tuple(_predict(provider, nodes, facts) for provider in known_providers())
    return Predictions(path.name, tuple(onnxruntime.get_available_providers()), found)


def _predict(provider: Provider, nodes: list[onnx.NodeProto], facts: Facts) -> Prediction:
    refusals = [provider.refusal(node, facts) for node in nodes]
    taken = [not refusal for refusal in refusals]
    made_by = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    for at, node in enumerate(nodes):
        source = made_by.get(node.input[0]) if node.input else None
        if node.op_type in provider.fuses and source is not None and taken[source]:
            taken[at], refusals[at] = True, ""
    readers = [[made_by[name] for name in node.input if name in made_by] for node in nodes]
    work = [_macs(node, facts) for node in nodes]
    counted: dict[str, int] = {}
    for refusal in filter(None, refusals):
        counted[refusal] = counted.get(refusal, 0) + 1
    share = sum(count for count, is_taken in zip(work, taken, strict=True) if is_taken) / max(
        1, sum(work)
    )
    most_first = tuple(sorted(counted.items(), key=lambda item: -item[1]))
    pieces = partitions(readers, taken)
    return Prediction(
        provider.name, provider.source, pieces, len(nodes), sum(taken), share, most_first
    )


def _macs(node: onnx.NodeProto, facts: Facts) -> int:
    place = FILTERS.get(node.op_type)
    inputs = [facts.shapes.get(name) for name in node.input]
    result = facts.shapes.get(node.output[0])
    if not inputs or inputs[0] is None or result is None:
        return 0
    return macs(node.op_type, inputs[0], inputs[place] if place is not None else None, result)
