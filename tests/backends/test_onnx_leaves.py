"""Results that are given on the way are cut off early, so that onnxruntime holds nothing for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgekit.backends.onnx.leaves import leaves_last
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.write import OnnxOptions, write
from edgekit.parity.arena_peak import arena_peak_bytes
from edgekit.program.capture import capture


class HandsOn(nn.Module):
    """Four large tensors in a row, and a line of each."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        lines = []
        for number in range(4):
            x = torch.cat([x, x[:, :, :1] + number], 2)
            lines.append(x[:, :, -2:-1] * 2)
        return (x.mean((2, 3)) + 1, *lines)


def test_lines_of_large_tensors_do_not_hold_them(tmp_path: Path) -> None:
    x = torch.randn(1, 4, 64, 256)
    program = capture(HandsOn(), (x,)).program
    path = tmp_path / "ordered.onnx"
    write(program, path, OnnxOptions())
    model = onnx.load(str(path))
    nodes = list(model.graph.node)
    first_output = model.graph.output[0].name
    # As the exporter leaves them: the result last, lines before it.
    (result,) = (node for node in nodes if first_output in node.output)
    given = {value.name for value in model.graph.output}
    lines = [node for node in reversed(nodes) if set(node.output) & given and node is not result]
    others = [node for node in nodes if not set(node.output) & given]
    model.graph.ClearField("node")
    model.graph.node.extend([*others, *lines, result])
    behind = tmp_path / "behind.onnx"
    onnx.save(model, str(behind))
    inputs = {program.inputs[0].name: x.numpy()}
    early, late = (arena_peak_bytes(file, inputs, reuse=False) for file in (path, behind))
    assert isinstance(early, int)
    assert isinstance(late, int)
    assert early < late - x.numel() * 4
    for name, value in load(path).run(inputs).items():
        np.testing.assert_array_equal(value, load(behind).run(inputs)[name])
    leaves_last(model)
    assert [node.output for node in model.graph.node][-1] == lines[0].output
