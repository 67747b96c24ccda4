"""Where in the user's code a graph node or an error comes from."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path, PurePosixPath

import torch
from torch import nn
from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_TORCH = re.compile(r"(site|dist)-packages/torch/")

_TORCH_FOLDER = Path(torch.__file__).parent.as_posix() + "/"
_PYTHON_FOLDER = Path(sysconfig.get_path("stdlib")).as_posix() + "/"


def source_line(node: Node) -> str:
    """The innermost frame outside torch, as "edgekit/zoo/layers.py:31 in forward"; "" where there is none.

    Absolute paths never appear.
    """
    frames = [frame.groups() for frame in _FRAME.finditer(node.meta.get("stack_trace") or "")]
    own = [frame for frame in frames if not _is_torch(frame[0])]
    return _frame(*own[-1]) if own else ""


def origin(node: Node) -> str:
    """Its source line or, where all code is torch's, its module: "module '3.conv' (Conv2d)"; "" without either."""
    line = source_line(node)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if line or not stack:
        return line
    kind = stack[-1][1]
    return _module(module_path(node), kind if isinstance(kind, str) else kind.__name__)


def raised_at(error: BaseException, module: nn.Module | None = None) -> str:
    """Where below the frame that caught it: the innermost line outside torch and Python, and the part of `module`.

    As "mynet.py:12 in forward, module 'stem.0' (Conv2d)"; "" if it was raised by the call itself.
    """
    steps = list(traceback.walk_tb(error.__traceback__))[1:]
    files = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in steps]
    own = [_frame(*place) for place in files if not (_is_torch(place[0]) or _is_python(place[0]))]
    parts = {id(part): name for name, part in module.named_modules()} if module is not None else {}
    reached = [held for frame, _ in steps if id(held := frame.f_locals.get("self")) in parts]
    within = [_module(parts[id(part)], type(part).__name__) for part in reached if parts[id(part)]]
    return ", ".join([*own[-1:], *within[-1:]])


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


def _frame(file: str, line: int | str, function: str) -> str:
    return f"{_short(file)}:{line} in {function}"


def _module(path: str, kind: str) -> str:
    name = kind.rpartition(".")[2]
    return f"module '{path}' ({name})" if path else f"module {name}"


def _is_torch(file: str) -> bool:
    posix = file.replace("\\", "/")
    return _TORCH.search(posix) is not None or posix.startswith(_TORCH_FOLDER)


def _is_python(file: str) -> bool:
    """Of the standard library, which has installed packages in a folder within."""
    posix = file.replace("\\", "/")
    return file.startswith("<frozen") or (
        posix.startswith(_PYTHON_FOLDER) and "-packages/" not in posix
    )


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
