"""Repeat edge frames by naming them, without Pad, Tile or Expand.

    pad_replicate(x, a and b frames)     = cat([x_0] * a + [x] + [x_last] * b, time)
    pad_replicate(x, frames and pixels)  = pad_replicate(pad_replicate(x, frames), pixels)
    cat([repeat(x_0, a), x, ...], time)  = cat([x_0] * a + [x] + ..., time)

where x_0 and x_last are one-frame slices. Core ML pads by replication in the last two axes only
(coremltools#2571), and the expand form of the official decoder costs 62 Expand and 62 Tile nodes
in ONNX (measured on Turbo-VAED-LTX).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.fx import Node

from edgekit.program.editing import GraphEditor, argument, arguments_of, shape_of
from edgekit.program.rule import Rule

aten = torch.ops.aten
TIME = 2
MOST_NAMED = 8  # inputs of a cat for one repetition; edge frames repeat one to four times


@dataclass(frozen=True)
class TimePad:
    source: Node
    spatial: tuple[int, ...]
    before: int
    after: int


class NameRepeatedFrames(Rule):
    name = "time-padding"

    def match(self, node: Node, edit: GraphEditor) -> TimePad | None:
        if node.target is not aten.pad.default or len(shape_of(node)) != 5:
            return None
        amounts = [int(amount) for amount in argument(node, 1)]
        mode = argument(node, 2, node.kwargs.get("mode", "constant"))
        if mode != "replicate" or len(amounts) < 6:
            return None
        source = argument(node, 0)
        assert isinstance(source, Node)
        return TimePad(source, tuple(amounts[:4]), amounts[4], amounts[5])

    def why_not(self, match: TimePad) -> str | None:
        if min(match.before, match.after) < 0:
            return "cuts frames off"
        if not match.before and not match.after:
            return "pads in space only"
        return None

    def replace(self, match: TimePad, edit: GraphEditor) -> Node:
        last = shape_of(match.source)[TIME] - 1
        first_frame = edit.call(aten.slice.Tensor, match.source, TIME, 0, 1)
        last_frame = edit.call(aten.slice.Tensor, match.source, TIME, last, last + 1)
        parts = [first_frame] * match.before + [match.source] + [last_frame] * match.after
        padded = edit.call(aten.cat.default, parts, TIME)
        if not any(match.spatial):
            return padded
        return edit.call(aten.pad.default, padded, [*match.spatial, 0, 0], "replicate")


@dataclass(frozen=True)
class RepeatedParts:
    parts: tuple[tuple[Node, int], ...]
    """Inputs of the cat, each with how often it stands in a row."""
    axis: int


class NameRepeatedSlices(Rule):
    name = "repeated-slices"

    def match(self, node: Node, edit: GraphEditor) -> RepeatedParts | None:
        if node.target is not aten.cat.default:
            return None
        axis = int(argument(node, 1)) if len(arguments_of(node)) > 1 else 0
        axis %= len(shape_of(node))
        parts = tuple(_repetition(part, axis) for part in argument(node, 0))
        return RepeatedParts(parts, axis) if any(count > 1 for _, count in parts) else None

    def why_not(self, match: RepeatedParts) -> str | None:
        most = max(count for _, count in match.parts)
        return f"a part stands {most} times" if most > MOST_NAMED else None

    def replace(self, match: RepeatedParts, edit: GraphEditor) -> Node:
        listed = [part for part, count in match.parts for _ in range(count)]
        return edit.call(aten.cat.default, listed, match.axis)


def _repetition(node: Node, axis: int) -> tuple[Node, int]:
    """The node behind a repeat or expand of a single element along `axis`, and how often."""
    if node.target not in (aten.repeat.default, aten.expand.default):
        return node, 1
    source = argument(node, 0)
    assert isinstance(source, Node)
    before, after = shape_of(source), shape_of(node)
    if len(before) != len(after) or before[axis] != 1:
        return node, 1
    changed = [dim for dim in range(len(after)) if before[dim] != after[dim]]
    return (source, after[axis]) if changed == [axis] else (node, 1)
