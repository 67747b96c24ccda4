"""Where in the user's code a graph node comes from."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import torch
from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_TORCH = re.compile(r"(site|dist)-packages/torch/")

_TORCH_FOLDER = Path(torch.__file__).parent.as_posix() + "/"


def source_line(node: Node) -> str:
    """The innermost frame outside torch, as "edgekit/zoo/layers.py:31 in forward".

    A node of torch's own modules that no user frame called has its torch frame; a node without a
    stack trace has "". Absolute paths never appear.
    """
    frames = [frame.groups() for frame in _FRAME.finditer(node.meta.get("stack_trace") or "")]
    if not frames:
        return ""
    own = [frame for frame in frames if not _is_torch(frame[0])]
    file, line, function = (own or frames)[-1]
    return f"{_short(file)}:{line} in {function}"


def module_path(node: Node) -> str:
    """The submodule that computed it, as "up_blocks.1.resnets.0.norm"; "" for the model itself."""
    return ["", *module_paths(node)][-1]


def module_paths(node: Node) -> list[str]:
    """Of all modules around it, the outermost first: "", "up_blocks", "up_blocks.1" ..."""
    stack = node.meta.get("nn_module_stack") or {}
    return [str(path).removeprefix("L['self']").removeprefix(".") for path, _ in stack.values()]


def op_name(node: Node) -> str:
    """The operator without overload or namespace: "conv2d", "pow", "getitem"."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[-1]
    return node.target if isinstance(node.target, str) else node.target.__name__


def _is_torch(file: str) -> bool:
    posix = file.replace("\\", "/")
    return _TORCH.search(posix) is not None or posix.startswith(_TORCH_FOLDER)


def _short(file: str) -> str:
    posix = file.replace("\\", "/")
    if "-packages/" in posix:
        return posix.rsplit("-packages/", 1)[1]
    folder = Path(file).parent
    depth = 0
    while (folder / "__init__.py").is_file():
        folder, depth = folder.parent, depth + 1
    parts = PurePosixPath(posix).parts
    # Without a package: up to two parents, but never a root, a home or a user's name.
    return "/".join(parts[-1 - (depth or max(0, min(2, len(parts) - 4))) :])
