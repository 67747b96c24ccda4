"""What providers would take of a graph, without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.profiling.partitions import partitions
from edgekit.profiling.providers import Prediction, known_providers, predict


def by_turns(reads: Sequence[Sequence[int]], taken: Sequence[bool]) -> int:
    """The slow way: run what is ready elsewhere, then what is ready here, until all has run."""
    done: set[int] = set()
    pieces = 0
    while len(done) < len(taken):
        for here in (False, True):
            size = 0
            while True:
                ready = [
                    at for at, sources in enumerate(reads)
                    if at not in done and taken[at] == here and done.issuperset(sources)
                ]  # fmt: skip
                if not ready:
                    break
                done.update(ready)
                size += len(ready)
            pieces += here and size > 0
    return pieces


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[int]], list[bool]]:
    count = draw(st.integers(1, 9))
    reads = [
        draw(st.lists(st.integers(0, at - 1), max_size=3)) if at else [] for at in range(count)
    ]
    return reads, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@given(graphs())
def test_pieces_are_those_of_running_by_turns(graph: tuple[list[list[int]], list[bool]]) -> None:
    assert partitions(*graph) == by_turns(*graph)


def written(folder: Path, nodes: list[onnx.NodeProto], shape: tuple[int, ...], weights: tuple[int, ...], result: tuple[int, ...]) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(np.zeros(weights, np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(folder / "g.onnx"))
    return folder / "g.onnx"


def named(path: Path) -> dict[str, Prediction]:
    return {one.provider: one for one in predict(path).predicted}


def test_a_convolution_over_frames_is_taken_by_none(tmp_path: Path) -> None:
    """The wheel's own check counts it as a Conv."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    for one in named(
        written(tmp_path, nodes, (1, 2, 3, 8, 8), (4, 2, 1, 1, 1), (1, 4, 3, 8, 8))
    ).values():
        assert one.mac_share == 0
        assert any("Conv" in reason for reason, _ in one.refusals)


def test_a_plain_network_is_taken_whole(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    for one in named(written(tmp_path, nodes, (1, 2, 8, 8), (4, 2, 1, 1), (1, 4, 8, 8))).values():
        assert (one.taken, one.partitions, one.mac_share) == (2, 1, 1.0)
        assert one.refusals == ()


def test_an_operator_in_the_middle_makes_two_pieces(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Det", ["c"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]), helper.make_node("Add", ["r", "r"], ["y"]),
    ]  # fmt: skip
    found = named(written(tmp_path, nodes, (1, 2, 8, 8), (4, 2, 1, 1), (1, 4)))["NNAPI"]
    assert found.partitions == 2
    assert found.refusals == (("Det is not among its operators", 1),)


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["y"])]
    found = named(written(tmp_path, nodes, (1, 2, 8, 8), (4, 2, 1, 1), (1, 4, 8, 8)))["NNAPI"]
    assert ("Conv with weights that are computed", 1) in found.refusals


@pytest.mark.parametrize("operator", ["argmax", "reducesum", "conv"])
def test_lists_of_the_wheel_are_read_with_their_misspelt_lines(operator: str) -> None:
    listed = {one.name: one.operators for one in known_providers()}
    assert operator in listed["Core ML, MLProgram"]
