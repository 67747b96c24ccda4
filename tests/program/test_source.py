from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from edgekit.program.source import module_path, op_name, origin, raised_at, source_line
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


def test_a_node_made_only_of_torch_modules_comes_from_its_module() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    nodes = exported_nodes(nn.Sequential(nn.Tanh(), inner), torch.ones(2))
    assert source_line(nodes["relu"]) == ""
    assert origin(nodes["relu"]) == "module '1.0' (ReLU)"
    assert origin(nodes["linear"]) == "module '1.1' (Linear)"
    (alone,) = exported_nodes(nn.ReLU(), torch.ones(2)).values()
    assert origin(alone) == "module ReLU"


def test_a_node_of_the_users_code_comes_from_its_line() -> None:
    node = exported_nodes(ChannelRMSNorm(1e-8), torch.ones(1, 2, 3, 3))["rsqrt"]
    assert origin(node) == source_line(node)


def test_an_error_is_placed_at_the_users_line_and_module() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.net(x)
            return y

        def __len__(self) -> int:
            return 0  # false, and still a module

    def place(module: nn.Module, *inputs: Tensor) -> str:
        with pytest.raises((RuntimeError, TypeError)) as caught:
            module(*inputs)
        return raised_at(caught.value, module)

    line = Wrapped.forward.__code__.co_firstlineno + 1
    at = f"program/test_source.py:{line} in forward, module 'net.1' (Linear)"
    assert place(Wrapped(), torch.ones(1, 3)).endswith(at)
    assert place(Wrapped().net, torch.ones(1, 3)) == "module '1' (Linear)"
    assert place(Wrapped()) == ""


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
