"""What a rewrite rule is, and how a list of rules is applied to a Program.

A local rule answers three questions about one node: does it match, why not after all, and what
replaces it. A rule over the whole graph overrides `apply`. Both report every decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.fx import Node

from edgekit.program.editing import GraphEditor
from edgekit.program.program import Program
from edgekit.program.source import origin


@dataclass(frozen=True)
class Decision:
    """One match of one rule: applied, or left alone for `reason`."""

    rule: str
    node: str
    source: str
    applied: bool
    reason: str


class Rule:
    """Subclasses state their algebra in the docstring; the result must equal the original."""

    name: ClassVar[str]

    def match(self, node: Node, edit: GraphEditor) -> Any | None:
        """Whatever `replace` needs when `node` ends an occurrence of the pattern, else None."""
        raise NotImplementedError

    def why_not(self, match: Any) -> str | None:
        """A reason not to rewrite this match, else None."""
        return None

    def replace(self, match: Any, edit: GraphEditor) -> Node:
        """Emit the replacement and return the node that stands for the matched one."""
        raise NotImplementedError

    def apply(self, edit: GraphEditor) -> list[Decision]:
        decisions = []
        for node in list(edit.graph.nodes):
            if node.op != "call_function" or (match := self.match(node, edit)) is None:
                continue
            reason = self.why_not(match)
            if reason is None:
                with edit.replacing(node):
                    node.replace_all_uses_with(self.replace(match, edit))
            decisions.append(
                Decision(self.name, node.name, origin(node), reason is None, reason or "")
            )
        edit.clean()
        return decisions


def rewrite(program: Program, rules: Sequence[Rule]) -> tuple[Program, list[Decision]]:
    """Apply `rules` in order. A program on which none applies is returned as it is."""
    edit = GraphEditor(program)
    decisions = [decision for rule in rules for decision in rule.apply(edit)]
    applied = any(decision.applied for decision in decisions)
    return (edit.finish() if applied else program), decisions
