from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from edgekit.program.source import module_path, op_name, source_line
from edgekit.zoo.layers import ChannelRMSNorm


def node_with_trace(*frames: tuple[str, str]) -> Node:
    node = Graph().placeholder("x")
    lines = [f'File "{file}", line 7, in {function}\n    code()' for file, function in frames]
    node.meta["stack_trace"] = "\n  ".join(lines)
    return node


def exported_nodes(module: nn.Module, example: Tensor) -> dict[str, Node]:
    graph = torch.export.export(module, (example,)).graph
    return {op_name(node): node for node in graph.nodes if node.op == "call_function"}


def test_a_node_of_a_package_is_placed_from_the_package_root() -> None:
    nodes = exported_nodes(nn.Sequential(ChannelRMSNorm(1e-8)), torch.ones(1, 2, 3, 3))
    source = source_line(nodes["rsqrt"])
    assert source.startswith("edgekit/zoo/layers.py:")
    assert source.endswith(" in forward")
    assert module_path(nodes["rsqrt"]) == "0"


def test_a_frame_of_torch_gives_way_to_the_caller_outside_torch() -> None:
    torch_file = str(Path(torch.__file__).parent / "nn" / "modules" / "conv.py")
    node = node_with_trace(("/home/me/app/net/model.py", "forward"), (torch_file, "forward"))
    assert source_line(node) == "app/net/model.py:7 in forward"


def test_a_node_made_only_of_torch_modules_has_its_torch_frame() -> None:
    source = source_line(exported_nodes(nn.Sequential(nn.ReLU()), torch.ones(2))["relu"])
    assert source.startswith("torch/nn/modules/activation.py:")


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/home/someone/model.py", "model.py"),
        ("/home/someone/project/model.py", "project/model.py"),
        ("/home/someone/a/b/c/model.py", "b/c/model.py"),
        ("C:\\Users\\someone\\project\\model.py", "project/model.py"),
        ("/opt/python/lib/python3.11/site-packages/timm/layers/norm.py", "timm/layers/norm.py"),
        ("<stdin>", "<stdin>"),
    ],
)
def test_a_source_line_names_no_home_and_no_root(file: str, shown: str) -> None:
    assert source_line(node_with_trace((file, "forward"))) == f"{shown}:7 in forward"


def test_a_node_without_a_trace_has_no_source_line() -> None:
    assert source_line(Graph().placeholder("x")) == ""
