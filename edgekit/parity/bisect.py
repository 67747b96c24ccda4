"""The first operator whose value in a written file is not what torch computes.

Both sides run once. Values are matched by name, and where names do not meet, by content: exporters
decompose operators and number the results anew, so `mul_1` of the file may be `silu` of the
program. An agreement is strong evidence, a disagreement under one name is weak; so a disagreement
counts only if its error can reach an output without passing through a value that agrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch.fx import Node

from edgekit.backends.runnable import Runnable
from edgekit.parity.sketch import Deviation, Sketch, deviation, sketch
from edgekit.parity.torch_run import Array, ObservedRun
from edgekit.program.program import Program
from edgekit.program.source import module_path, op_name, source_line
from edgekit.report import json_number

_CAST = re.compile(r"(_cast|_to)?_(fp|int|uint)(8|16|32|64)$")
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Divergence:
    """An interval of the graph: agreement before it, disagreement after, nothing known inside."""

    value: str
    """Name in the file of the first value that is wrong."""
    op_type: str
    node: str
    """Name in the program of what the value should be."""
    operator: str
    source: str
    module: str
    error: Deviation
    last_agreeing: str
    """The nearest node before it that agrees, or an input."""
    error_before: float
    """Largest relative error of the agreeing values it is computed from."""
    unseen: tuple[str, ...]
    """Nodes in between for which the file shows no value; one of them may be the culprit."""
    values_agreeing: int

    def to_json(self) -> dict[str, object]:
        return {
            **asdict(self),
            "error": json_number(self.error.relative),
            "max_abs": json_number(self.error.max_abs),
            "unseen": list(self.unseen),
        }

    def sentence(self) -> str:
        place = f" at {self.source}" if self.source else ""
        place += f", module {self.module}" if self.module else ""
        hidden = f" (unseen in between: {', '.join(self.unseen)})" if self.unseen else ""
        return (
            f"The file agrees up to {self.last_agreeing} (relative error {self.error_before:.2g}) "
            f"and diverges at {self.value} ({self.op_type}), which is {self.node} "
            f"({self.operator}{place}): relative error {self.error.relative:.2g}, "
            f"largest difference {self.error.max_abs:.3g}{hidden}."
        )


@dataclass(frozen=True)
class _FileValue:
    name: str
    op_type: str
    content: Sketch


def first_divergence(
    program: Program, file: Runnable, inputs: Mapping[str, Array], threshold: float
) -> Divergence | None:
    """Compare the program that the file was written from with the file's trace.

    `threshold` is a relative error (see `Deviation`): about 1e-3 for single and 5e-2 for half
    precision. None: every divergence found, if any, is healed before it reaches an output.
    """
    computed = _sketch_nodes(program, inputs)
    values = [_FileValue(name, op, sketch(array)) for name, op, array in file.trace(inputs)]
    agreeing, suspects = _match(program, computed, values, threshold)
    for node in computed:
        if node in suspects and _reaches_output(node, agreeing):
            error = deviation(computed[node], suspects[node].content)
            return _describe(node, suspects[node], error, agreeing)
    return None


def _sketch_nodes(program: Program, inputs: Mapping[str, Array]) -> dict[Node, Sketch]:
    computed: dict[Node, Sketch] = {}

    def keep(node: Node, _args: object, _kwargs: object, value: object) -> object:
        if node.op == "call_function" and isinstance(value, torch.Tensor):
            wide = value.float() if value.dtype is torch.bfloat16 else value  # numpy has none
            computed[node] = sketch(wide.detach().numpy())
        return value

    ObservedRun(program, keep).run_by_name(inputs)
    return computed


def _match(
    program: Program, computed: dict[Node, Sketch], values: list[_FileValue], threshold: float
) -> tuple[dict[Node, float], dict[Node, _FileValue]]:
    """Relative error of the nodes that agree, and the values that contradict their namesakes."""
    by_name = _names(program, computed)
    present = {value.name for value in values}
    agreeing: dict[Node, float] = {}
    suspects: dict[Node, _FileValue] = {}
    unclaimed: list[tuple[_FileValue, Node | None]] = []
    for value in values:
        node = _namesake(value, by_name, computed, present)
        if node is None:
            unclaimed.append((value, None))
            continue
        error = deviation(computed[node], value.content).relative
        if error <= threshold:
            agreeing[node] = error
        else:
            unclaimed.append((value, node))
    for value, node in unclaimed:
        renamed = _recognise(value, computed, agreeing, threshold)
        if renamed:
            agreeing[renamed[0]] = renamed[1]
        elif node is not None and node not in agreeing:
            suspects.setdefault(node, value)
    return agreeing, {node: value for node, value in suspects.items() if node not in agreeing}


def _names(program: Program, computed: dict[Node, Sketch]) -> dict[str, Node]:
    """Nodes by their own name, and those that are outputs by the output's name too."""
    names = {node.name: node for node in computed}
    if not computed:
        return names
    results = next(iter(computed)).graph.output_node().args[0]
    assert isinstance(results, tuple | list)
    for spec, result in zip(program.outputs, results, strict=True):
        if isinstance(result, Node):
            names.setdefault(spec.name, result)
    return names


def _namesake(
    value: _FileValue,
    by_name: dict[str, Node],
    computed: dict[Node, Sketch],
    present: set[str],
) -> Node | None:
    for name in _spellings(value.name):
        node = by_name.get(name)
        if node in computed and computed[node].shape == value.content.shape:
            return node if name == value.name or name not in present else None
    return None


def _spellings(name: str) -> Iterator[str]:
    """The name, then without the suffixes that Core ML's casts and renumbering add."""
    yield name
    while (plain := _CAST.sub("", name)) != name or (plain := _NUMBER.sub("", name)) != name:
        name = plain
        yield name


def _recognise(
    value: _FileValue,
    computed: dict[Node, Sketch],
    agreeing: dict[Node, float],
    threshold: float,
) -> tuple[Node, float] | None:
    """The node, not yet spoken for, whose content this value has, and the error."""
    if not value.content.is_distinctive:
        return None
    errors = {
        node: deviation(content, value.content).relative
        for node, content in computed.items()
        if node not in agreeing
        and content.shape == value.content.shape
        and abs(content.peak - value.content.peak) <= threshold * content.peak
    }
    best = min(errors, key=errors.__getitem__, default=None)
    return None if best is None or errors[best] > threshold else (best, errors[best])


def _reaches_output(node: Node, agreeing: Mapping[Node, float]) -> bool:
    seen, front = {node}, [node]
    while front:
        for user in front.pop().users:
            if user.op == "output":
                return True
            if user not in agreeing and user not in seen:
                seen.add(user)
                front.append(user)
    return False


def _describe(
    node: Node,
    value: _FileValue,
    error: Deviation,
    agreeing: Mapping[Node, float],
) -> Divergence:
    unseen, border = _back_to_agreement(node, agreeing)
    order = {member: index for index, member in enumerate(node.graph.nodes)}
    last = max(border, key=order.__getitem__, default=None)
    return Divergence(
        value=value.name,
        op_type=value.op_type,
        node=node.name,
        operator=op_name(node),
        source=source_line(node),
        module=module_path(node),
        error=error,
        last_agreeing=last.name if last else "its constants",
        error_before=max((agreeing.get(member, 0.0) for member in border), default=0.0),
        unseen=tuple(member.name for member in sorted(unseen, key=order.__getitem__)),
        values_agreeing=len(agreeing),
    )


def _back_to_agreement(node: Node, agreeing: Mapping[Node, float]) -> tuple[set[Node], set[Node]]:
    """Unmatched nodes that `node` depends on, and the agreeing nodes and inputs before them."""
    unseen: set[Node] = set()
    border: set[Node] = set()
    front = list(node.all_input_nodes)
    while front:
        member = front.pop()
        if member.op == "placeholder" or member in agreeing:
            border.add(member)
        elif member.op == "call_function" and member not in unseen:
            unseen.add(member)
            front.extend(member.all_input_nodes)
    return unseen, border
