"""onnxsim's graph is kept or dropped; the child process is replaced by small scripts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.backends.onnx import simplify as simplifying
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.simplify import simplify

INPUTS = {"x": np.arange(4, dtype=np.float32).reshape(1, 4)}
CHANGE = """
import sys, onnx
model = onnx.load(sys.argv[1])
{change}
onnx.save(model, sys.argv[2])
"""
KEEP_ONE = "nodes = list(model.graph.node); del model.graph.node[:]; nodes[-1].input[0] = 'x'; model.graph.node.append(nodes[-1])"  # fmt: skip


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Path]:
    """y = relu(neg(neg(neg(neg(x))))), with metadata."""
    names = ["x", "a", "b", "c", "d"]
    nodes = [helper.make_node("Neg", [old], [new]) for old, new in pairwise(names)]
    nodes.append(helper.make_node("Relu", ["d"], ["y"]))
    door = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "idle", door[:1], door[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"edgekit.inputs": "[]"})
    path = tmp_path / "idle.onnx"
    onnx.save(model, path)
    yield path
    assert [left.name for left in tmp_path.iterdir()] == ["idle.onnx"]


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(simplifying, "CHILD", code)


def test_a_smaller_graph_that_computes_the_same_is_kept(
    idle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, CHANGE.format(change=KEEP_ONE))
    before = load(idle).run(INPUTS)["y"]
    assert simplify(idle, INPUTS) == "onnxsim removed 4 of 5 nodes"
    np.testing.assert_array_equal(load(idle).run(INPUTS)["y"], before)
    assert len(onnx.load(idle).graph.node) == 1


def test_onnxsim_itself_keeps_the_contract(idle: Path) -> None:
    assert simplify(idle, INPUTS) == ""  # it knows no rule for signs
    model = onnx.load(idle)
    assert {"edgekit.inputs"} <= {entry.key for entry in model.metadata_props}
    assert model.ir_version <= 10
    np.testing.assert_array_equal(load(idle).run(INPUTS)["y"], INPUTS["x"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "onnxsim failed and its graph was dropped: exit code -6"),
        ("raise SystemExit('it cannot')", "onnxsim failed and its graph was dropped: it cannot"),
        ("raise ImportError('no onnxsim')", "dropped: ImportError: no onnxsim"),
        ("pass", "onnxsim failed and its graph was dropped"),
        ("import sys; open(sys.argv[2], 'w').write('no model')", "wrote what is no model"),
        (
            CHANGE.format(change=KEEP_ONE + "; model.graph.node[0].op_type = 'Neg'"),
            "was dropped: output 'y' changed",
        ),
        (
            CHANGE.format(change=KEEP_ONE + "; model.graph.node[0].op_type = 'NoSuchOp'"),
            "was dropped: it does not run",
        ),
    ],
)
def test_a_child_that_fails_or_changes_the_model_is_dropped(
    idle: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    child(monkeypatch, code)
    before = idle.read_bytes()
    assert words in simplify(idle, INPUTS)
    assert idle.read_bytes() == before


def test_a_file_with_nothing_to_remove_stays_without_a_word(
    idle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, CHANGE.format(change=""))
    before = idle.read_bytes()
    assert simplify(idle, INPUTS) == ""
    assert idle.read_bytes() == before


def test_a_child_that_takes_too_long_is_dropped(
    idle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(simplifying, "TIMEOUT_S", 0.5)
    assert simplify(idle, INPUTS) == "onnxsim took over 0.5 s and was dropped"
