"""The order in which onnxruntime runs what a graph gives at several places."""

from __future__ import annotations

import onnx


def leaves_last(model: onnx.ModelProto) -> None:
    """Move the nodes that nobody reads to the end, the first of them last.

    onnxruntime 1.32 runs the graph of the last such node first, all that it needs included, and works
    its way to the first one. The lines that a step of a stream hands on are small, and what they are
    cut from is large: cut last, as they would be behind the result, they hold it to the end of the run
    (1421 against 1123 kB in a step of a small causal decoder).
    """
    given = {value.name for value in model.graph.output}
    read = {name for node in model.graph.node for name in node.input}
    leaves: list[onnx.NodeProto] = []
    others: list[onnx.NodeProto] = []
    for node in model.graph.node:
        is_leaf = all(name in given and name not in read for name in node.output)
        (leaves if is_leaf else others).append(node)
    if len(leaves) > 1:
        model.graph.ClearField("node")
        model.graph.node.extend([*others, *leaves[::-1]])
