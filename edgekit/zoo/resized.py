"""Another number of channels in a network that was built: how a pruned one is built from its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Changes = Mapping[str, Mapping[str, Any]]
"""By path of a module ("" for the network itself): shapes of its parameters and buffers, and its attributes that
are whole numbers or tuples of such (`in_channels`, `groups`, `normalized_shape`)."""


def changes_between(network: nn.Module, pruned: nn.Module) -> dict[str, dict[str, Any]]:
    """What `resize` makes of the first to get the second, weights aside."""
    after = dict(pruned.named_modules())
    found = {}
    for path, module in network.named_modules():
        before, now = _sizes(module), _sizes(after[path])
        changed = {name: size for name, size in now.items() if before.get(name) != size}
        if changed:
            found[path] = changed
    return found


def resize(network: nn.Module, changes: Changes) -> nn.Module:
    """In place: numbers that stay are the first ones of each axis. Returns the network.

    Raises ValueError for what the network does not have.
    """
    modules = dict(network.named_modules())
    for path, changed in changes.items():
        if path not in modules:
            raise ValueError(f"there is no module '{path}' to give other channels to")
        module = modules[path]
        known = _sizes(module)
        for name, size in changed.items():
            if name not in known or type(size) is not type(known[name]):
                raise ValueError(f"module '{path}' has no size '{name}' like {size!r}")
            if name in module._parameters or name in module._buffers:
                _cut(module, path, name, size)
            else:
                setattr(module, name, size)
    return network


def _sizes(module: nn.Module) -> dict[str, Any]:
    own = {
        name: value
        for name, value in vars(module).items()
        if type(value) is int or (isinstance(value, tuple) and _whole(value) and value)
    }
    tensors = {**module._parameters, **module._buffers}
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if tensor is not None and tensor.ndim
    }
    return {name: value for name, value in own.items() if not name.startswith("_")} | shapes


def _whole(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int for value in values)


def _cut(module: nn.Module, path: str, name: str, shape: tuple[int, ...]) -> None:
    old: Any = getattr(module, name)
    if len(shape) != old.ndim or any(not 1 <= new <= had for new, had in zip(shape, old.shape)):
        raise ValueError(
            f"'{name}' of '{path}' cannot be cut from {list(old.shape)} to {list(shape)}"
        )
    with torch.no_grad():
        new = old[tuple(slice(size) for size in shape)].clone()
    if name in module._buffers:
        setattr(module, name, new)
    else:
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
