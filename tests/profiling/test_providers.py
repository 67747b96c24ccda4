"""What providers would take of a graph, without them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.data_folder import data_folder
from edgekit.profiling.partitions import partitions
from edgekit.profiling.provider_rules import documented, known_providers
from edgekit.profiling.providers import Prediction, predict


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


def test_a_convolution_over_frames_is_taken_by_no_mobile_provider(tmp_path: Path) -> None:
    """The wheel's own check counts it as a Conv."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    found = named(written(tmp_path, nodes, (1, 2, 3, 8, 8), (4, 2, 1, 1, 1), (1, 4, 3, 8, 8)))
    for name, one in found.items():
        if name in ("QNN", "TensorRT"):
            assert one.mac_share == 1
            continue
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


@pytest.mark.parametrize("name", ["qnn", "tensorrt"])
def test_a_list_of_operators_names_its_source_and_nothing_twice(name: str) -> None:
    file = data_folder("export") / "providers" / f"{name}.toml"
    table = tomllib.loads(file.read_text())
    names = [operator for group in table["operators"] for operator in group["names"]]
    assert len(names) == len(set(names)) > 80
    assert table["source"]
    assert {o for limit in table["limits"] for o in limit["operators"]} <= set(names)
    assert documented(file).source == table["version"]


def test_tensorrt_takes_codes_around_zero_only_and_no_other_resize(tmp_path: Path) -> None:
    zero, scale = (numpy_helper.from_array(np.array(v), n) for v, n in ((np.int8(0), "z"), (np.float32(0.1), "s")))  # fmt: skip
    offset = numpy_helper.from_array(np.array(3, np.int8), "o")
    sizes = numpy_helper.from_array(np.array([1, 2, 16, 16]), "n")

    def refused(*nodes: onnx.NodeProto) -> list[str]:
        graph = helper.make_graph(
            list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 8, 8))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [zero, scale, offset, sizes],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, str(tmp_path / "g.onnx"))
        return [reason for reason, _ in named(tmp_path / "g.onnx")["TensorRT"].refusals]

    def through_codes(point: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", ["x", "s", point], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", point], ["y"]),
        ]

    assert refused(*through_codes("z")) == []
    assert refused(*through_codes("o")) == [
        "QuantizeLinear with a zero point", "DequantizeLinear with a zero point",
    ]  # fmt: skip
    resize = ["x", "", "", "n"]
    assert refused(helper.make_node("Resize", resize, ["y"], mode="linear")) == []
    assert refused(helper.make_node("Resize", resize, ["y"], mode="cubic")) == [
        "Resize with mode cubic"
    ]
    assert refused(helper.make_node("Not", ["x"], ["y"])) == ["Not of float32"]
